/* What workers tell of their devices: kept for the status, only when it comes from a worker of this run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/server/devices.h"

#define RUN 77

static bool tell(struct tessi_device_table *devices, uint32_t peer, uint64_t run_id, uint32_t number, const char *name)
{
    struct tessi_message message = {.type = TESSI_MSG_DEVICE, .run_id = run_id};
    struct tessi_buffer buffer = {0};
    message.as.device = (struct tessi_msg_device){.number = number, .name = name, .watts = -1};
    assert_int_equal(tessi_message_pack(&buffer, &message, NULL), TESSI_OK);
    bool taken = tessi_devices_take(devices, peer, buffer.data, buffer.size);
    tessi_buffer_fini(&buffer);
    return taken;
}

static void join(struct tessi_driver *driver, uint32_t peer)
{
    struct tessi_message message = {.type = TESSI_MSG_HELLO_WORKER};
    struct tessi_msg_hello_worker *hello = &message.as.hello_worker;
    struct tessi_buffer buffer = {0};
    struct tessi_error why;
    *hello = (struct tessi_msg_hello_worker){.name = "w",
                                             .host = "h",
                                             .address = "tcp://127.0.0.1:1",
                                             .slots = 1,
                                             .memory_bytes = 1 << 30,
                                             .resources = "",
                                             .processor = ""};
    memcpy(hello->hello.families, "plain", 6);
    assert_int_equal(tessi_message_pack(&buffer, &message, NULL), TESSI_OK);
    assert_int_equal(tessi_driver_receive(driver, 1, peer, buffer.data, buffer.size, &why), TESSI_DRIVER_TAKEN);
    assert_int_equal(tessi_driver_role(driver, peer), TESSI_ROLE_WORKER);
    tessi_buffer_fini(&buffer);
}

static void test_devices(void **state)
{
    (void)state;
    struct tessi_sched_config config = tessi_sched_config_default();
    struct tessi_driver *driver = tessi_driver_create(&config, RUN);
    struct tessi_device_table *devices = tessi_devices_create(driver);
    join(driver, 5);
    join(driver, 6);
    assert_false(tell(devices, 9, RUN, 0, "of a stranger"));
    assert_false(tell(devices, 5, RUN + 1, 0, "of another run"));
    assert_null(tessi_devices_of(devices, 5, 0));
    assert_true(tell(devices, 5, RUN, 1, "one"));
    assert_true(tell(devices, 6, RUN, 0, "two"));
    assert_true(tell(devices, 5, RUN, 1, "newer"));
    assert_true(tell(devices, 5, RUN, TESSI_DEVICES_MAX, "too many"));
    assert_null(tessi_devices_of(devices, 5, 0));
    assert_null(tessi_devices_of(devices, 5, TESSI_DEVICES_MAX));
    assert_string_equal(tessi_devices_of(devices, 5, 1)->name, "newer");
    assert_string_equal(tessi_devices_of(devices, 6, 0)->name, "two");
    tessi_devices_gone(devices, 5);
    tessi_devices_gone(devices, 99);
    assert_null(tessi_devices_of(devices, 5, 1));
    assert_string_equal(tessi_devices_of(devices, 6, 0)->name, "two");
    join(driver, 7); /* takes the place of the one that went */
    assert_true(tell(devices, 7, RUN, 0, "three"));
    assert_null(tessi_devices_of(devices, 7, 1));
    assert_string_equal(tessi_devices_of(devices, 7, 0)->name, "three");
    tessi_devices_destroy(devices);
    tessi_driver_destroy(driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_devices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
