/* Addresses and keys: what is understood, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/net/address.h"
#include "core/net/keys.h"

struct good_case {
    const char *text;
    enum tessi_address_use use;
    const char *endpoint;
    bool is_loopback;
    bool is_wildcard;
};

static void test_good_addresses(void **state)
{
    (void)state;
    static const struct good_case cases[] = {
        {"tcp://127.0.0.1:9000", TESSI_ADDRESS_CONNECT, "tcp://127.0.0.1:9000", true, false},
        {"tcp://127.9.9.9", TESSI_ADDRESS_CONNECT, "tcp://127.9.9.9:8786", true, false},
        {"node-7.cluster:1", TESSI_ADDRESS_CONNECT, "tcp://node-7.cluster:1", false, false},
        {"localhost", TESSI_ADDRESS_CONNECT, "tcp://localhost:8786", true, false},
        {"tcp://[::1]:65535", TESSI_ADDRESS_CONNECT, "tcp://[::1]:65535", true, false},
        {"tcp://[fe80::1]", TESSI_ADDRESS_CONNECT, "tcp://[fe80::1]:8786", false, false},
        {"tcp://[::]:0", TESSI_ADDRESS_LISTEN, "tcp://[::]:0", false, true},
        {"tcp://*:0", TESSI_ADDRESS_LISTEN, "tcp://*:0", false, true},
        {"tcp://0.0.0.0:8786", TESSI_ADDRESS_LISTEN, "tcp://0.0.0.0:8786", false, true},
        {"tcp://10.0.0.1:8786", TESSI_ADDRESS_LISTEN, "tcp://10.0.0.1:8786", false, false},
        {"inproc://cluster-1", TESSI_ADDRESS_CONNECT, "inproc://cluster-1", true, false},
        {"ipc:///tmp/socket", TESSI_ADDRESS_CONNECT, "ipc:///tmp/socket", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tessi_address address;
        struct tessi_error error = {0};
        char text[TESSI_ENDPOINT_MAX];
        assert_int_equal(tessi_address_parse(cases[i].text, cases[i].use, &address, &error), TESSI_OK);
        tessi_address_format(&address, text, sizeof text);
        assert_string_equal(text, cases[i].endpoint);
        assert_int_equal(tessi_address_is_loopback(&address), cases[i].is_loopback);
        assert_int_equal(tessi_address_is_wildcard(&address), cases[i].is_wildcard);
    }
}

static void test_near_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_near;
    } cases[] = {
        {"tcp://127.0.0.1", true},      {"ipc:///tmp/socket", true},       {"tcp://[::1]", true},
        {"tcp://10.255.0.1", true},     {"tcp://11.0.0.1", false},         {"tcp://172.16.0.1", true},
        {"tcp://172.31.9.9", true},     {"tcp://172.32.0.1", false},       {"tcp://172.15.0.1", false},
        {"tcp://192.168.7.1", true},    {"tcp://192.169.7.1", false},      {"tcp://169.254.1.1", true},
        {"tcp://8.8.8.8", false},       {"tcp://[fe80::1]", true},         {"tcp://[fd00::1]", true},
        {"tcp://[2001:db8::1]", false}, {"tcp://[::ffff:10.1.1.1]", true}, {"tcp://[::ffff:9.1.1.1]", false},
        {"node-7.cluster:1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tessi_address address;
        struct tessi_error error = {0};
        assert_int_equal(tessi_address_parse(cases[i].text, TESSI_ADDRESS_CONNECT, &address, &error), TESSI_OK);
        assert_int_equal(tessi_address_is_near(&address), cases[i].is_near);
    }
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum tessi_address_use use;
        const char *says;
    } cases[] = {
        {"", TESSI_ADDRESS_CONNECT, "host is missing"},
        {"tcp://", TESSI_ADDRESS_CONNECT, "host is missing"},
        {"tcp://:80", TESSI_ADDRESS_CONNECT, "host is missing"},
        {"tcp://a b:80", TESSI_ADDRESS_CONNECT, "host"},
        {"http://host:80", TESSI_ADDRESS_CONNECT, "tcp://host:port"},
        {"tcp://host:", TESSI_ADDRESS_CONNECT, "port"},
        {"tcp://host:65536", TESSI_ADDRESS_CONNECT, "65535"},
        {"tcp://host:-1", TESSI_ADDRESS_CONNECT, "port"},
        {"tcp://host:99999999999999999999", TESSI_ADDRESS_CONNECT, "port"},
        {"tcp://host:0", TESSI_ADDRESS_CONNECT, "listening"},
        {"tcp://*:80", TESSI_ADDRESS_CONNECT, "listening"},
        {"tcp://::1:80", TESSI_ADDRESS_CONNECT, "brackets"},
        {"tcp://[::1", TESSI_ADDRESS_CONNECT, "[::1]"},
        {"tcp://[::1]x", TESSI_ADDRESS_CONNECT, "[::1]"},
        {"tcp://[hello]:80", TESSI_ADDRESS_CONNECT, "not an IPv6"},
        {"inproc://", TESSI_ADDRESS_LISTEN, "missing"},
        {"8786", TESSI_ADDRESS_LISTEN, "tcp://127.0.0.1:8786"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tessi_address address;
        struct tessi_error error = {0};
        assert_int_equal(tessi_address_parse(cases[i].text, cases[i].use, &address, &error), TESSI_INVALID);
        if (strstr(error.text, cases[i].says) == NULL) {
            fail_msg("'%s' gave '%s', which does not say '%s'", cases[i].text, error.text, cases[i].says);
        }
    }
    char text[2000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    struct tessi_address address;
    assert_int_equal(tessi_address_parse(text, TESSI_ADDRESS_CONNECT, &address, NULL), TESSI_INVALID);
    memcpy(text, "inproc://", 9);
    assert_int_equal(tessi_address_parse(text, TESSI_ADDRESS_CONNECT, &address, NULL), TESSI_INVALID);
}

static void test_resolve(void **state)
{
    (void)state;
    struct tessi_address address;
    struct tessi_address numeric;
    struct sockaddr_storage place;
    socklen_t length = 0;
    struct tessi_error error = {0};
    assert_int_equal(tessi_address_parse("tcp://localhost:7", TESSI_ADDRESS_CONNECT, &address, NULL), TESSI_OK);
    assert_int_equal(tessi_address_resolve(&address, &place, &length, &error), TESSI_OK);
    tessi_address_from_socket(&place, &numeric);
    assert_true(tessi_address_is_loopback(&numeric));
    assert_int_equal(numeric.port, 7);
    assert_int_equal(tessi_address_source(&address, &numeric, &error), TESSI_OK);
    assert_true(tessi_address_is_loopback(&numeric));
    assert_int_equal(tessi_address_parse("tcp://no-such-host.invalid:7", TESSI_ADDRESS_CONNECT, &address, NULL),
                     TESSI_OK);
    assert_int_equal(tessi_address_resolve(&address, &place, &length, &error), TESSI_NOT_FOUND);
    assert_non_null(strstr(error.text, "no-such-host.invalid"));
}

struct keys_place {
    char parent[64];
    char dir[80];
    char public_path[128];
    char secret_path[128];
};

static int make_place(void **state)
{
    struct keys_place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    (void)snprintf(place->parent, sizeof place->parent, "/tmp/tessera-keys-XXXXXX");
    assert_non_null(mkdtemp(place->parent));
    (void)snprintf(place->dir, sizeof place->dir, "%s/keys", place->parent);
    (void)snprintf(place->public_path, sizeof place->public_path, "%s/cluster.public", place->dir);
    (void)snprintf(place->secret_path, sizeof place->secret_path, "%s/cluster.secret", place->dir);
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct keys_place *place = *state;
    (void)unlink(place->public_path);
    (void)unlink(place->secret_path);
    (void)rmdir(place->dir);
    (void)rmdir(place->parent);
    free(place);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_keys_round_trip(void **state)
{
    struct keys_place *place = *state;
    struct tessi_keys keys;
    struct tessi_error error = {0};
    struct stat facts;
    assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_NOT_FOUND);
    assert_non_null(strstr(error.text, "cluster.public"));
    assert_int_equal(tessi_keys_generate(place->dir, &error), TESSI_OK);
    assert_int_equal(stat(place->dir, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
    assert_int_equal(stat(place->secret_path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_OK);
    assert_int_equal(strlen(keys.public_key), 40);
    assert_int_equal(strlen(keys.secret_key), 40);
    assert_string_not_equal(keys.public_key, keys.secret_key);

    struct tessi_keys again;
    assert_int_equal(tessi_keys_generate(place->dir, &error), TESSI_BUSY);
    assert_non_null(strstr(error.text, "never overwritten"));
    assert_int_equal(unlink(place->public_path), 0);
    assert_int_equal(tessi_keys_generate(place->dir, &error), TESSI_BUSY);
    write_file(place->public_path, keys.public_key);
    assert_int_equal(tessi_keys_load(place->dir, &again, &error), TESSI_OK);
    assert_string_equal(again.secret_key, keys.secret_key);
}

static void test_keys_refused(void **state)
{
    struct keys_place *place = *state;
    struct tessi_keys keys;
    struct tessi_error error = {0};
    assert_int_equal(tessi_keys_generate(place->dir, &error), TESSI_OK);
    for (unsigned mode = 0640; mode >= 0604; mode -= 034) {
        assert_int_equal(chmod(place->secret_path, mode), 0);
        assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_AUTH);
        assert_non_null(strstr(error.text, "chmod 600"));
    }
    assert_int_equal(chmod(place->secret_path, 0600), 0);
    assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_OK);

    /* A well-formed key that is not the secret's. */
    char other[48];
    memcpy(other, keys.public_key, sizeof keys.public_key);
    other[0] = other[0] == '1' ? '2' : '1';
    write_file(place->public_path, other);
    assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_FORMAT);
    assert_non_null(strstr(error.text, "one pair"));
    assert_int_equal(keys.secret_key[0], '\0');

    char too_long[300];
    memset(too_long, '#', sizeof too_long);
    too_long[sizeof too_long - 1] = '\0';
    const char *const malformed[] = {
        "",
        "short",
        "0123456789012345678901234567890123456789x",
        "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"",
        too_long,
    };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        write_file(place->public_path, malformed[i]);
        assert_int_equal(tessi_keys_load(place->dir, &keys, &error), TESSI_FORMAT);
    }
    assert_int_equal(tessi_keys_load("", &keys, &error), TESSI_INVALID);
    assert_int_equal(tessi_keys_generate("/proc/no-such-dir/keys", &error), TESSI_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_addresses),
        cmocka_unit_test(test_near_addresses),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test_setup_teardown(test_keys_round_trip, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_keys_refused, make_place, remove_place),
    };
    return cmocka_run_group_tests_name("net_address", tests, NULL, NULL);
}
