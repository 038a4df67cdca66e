#include "client/array.h"
#include "core/base/alloc.h"

void tessi_scope_clear(struct tess_scope *scope)
{
    while (scope->arrays != NULL) {
        tessi_array_release(scope->arrays);
    }
}

tess_scope *tess_scope_open(tess_session *session)
{
    if (session == NULL) {
        return NULL;
    }
    struct tess_scope *scope = tessi_zalloc(sizeof *scope);
    scope->session = session;
    scope->outer = session->innermost;
    session->innermost->inner = scope;
    session->innermost = scope;
    return scope;
}

void tess_scope_close(tess_scope *scope)
{
    if (scope == NULL) {
        return;
    }
    struct tess_session *session = scope->session;
    struct tess_scope *outer = scope->outer;
    struct tess_scope *last = session->innermost;
    while (last != outer) {
        struct tess_scope *next = last->outer;
        tessi_scope_clear(last);
        tessi_free(last);
        last = next;
    }
    outer->inner = NULL;
    session->innermost = outer;
}
