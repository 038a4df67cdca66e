/* Priorities, policies and demands for resources, for a session or an operation. */
#include "client/array.h"

_Static_assert(TESS_PRIORITY_MAX == TESSI_PRIORITY_MAX &&
                   (int)TESS_POLICY_SHORTEST_FIRST == TESSI_POLICY_SHORTEST_FIRST &&
                   (int)TESS_POLICY_FIRST_COME == TESSI_POLICY_FIRST_COME &&
                   (int)TESS_POLICY_B_LEVEL == TESSI_POLICY_B_LEVEL,
               "the public numbers are those of the wire");

static enum tessi_status read_options(const tess_compute_options *options, struct tessi_task_options *task_options,
                                      struct tessi_error *error)
{
    *task_options = (struct tessi_task_options){0};
    if (options == NULL) {
        return TESSI_OK;
    }
    struct tessi_task_options read = {.priority = options->priority, .policy = (enum tessi_policy)options->policy};
    enum tessi_status status =
        tessi_resources_parse(options->resources != NULL ? options->resources : "", &read.demand, error);
    if (status == TESSI_OK) {
        status = tessi_task_options_check(&read, error);
    }
    *task_options = status == TESSI_OK ? read : *task_options;
    return status;
}

tess_status tess_session_schedule(tess_session *session, const tess_compute_options *options)
{
    struct tessi_error error = {0};
    struct tessi_task_options task_options;
    if (session == NULL) {
        return TESS_INVALID;
    }
    if (read_options(options, &task_options, &error) != TESSI_OK) {
        tessi_error_prefix(&error, "%s", __func__);
        return tessi_session_fail(session, &error);
    }
    session->task_options = task_options;
    return TESS_OK;
}

tess_status tess_schedule(tess_array *array, const tess_compute_options *options)
{
    struct tessi_error error = {0};
    struct tessi_task_options task_options;
    if (array == NULL || array->session == NULL) {
        return TESS_INVALID;
    }
    if (array->node == NULL) {
        tessi_fail(&error, array->status, "%s", array->text);
        return tessi_session_fail(array->session, &error);
    }
    if (read_options(options, &task_options, &error) != TESSI_OK) {
        tessi_error_prefix(&error, "%s", __func__);
        return tessi_session_fail(array->session, &error);
    }
    tessi_layer_set_task_options(array->node->layer, &task_options);
    array->node->scheduled = options != NULL;
    return TESS_OK;
}
