#include "core/graph/report.h"

#include "core/base/alloc.h"

void tessi_report_fini(struct tessi_report *report)
{
    tessi_spans_fini(&report->started);
    tessi_spans_fini(&report->done);
    tessi_spans_fini(&report->copied);
    tessi_spans_fini(&report->dropped);
    tessi_spans_fini(&report->adopted);
    tessi_spans_fini(&report->missing);
    tessi_spans_fini(&report->stolen);
    tessi_spans_fini(&report->kept);
    tessi_spans_fini(&report->refused);
    tessi_spans_fini(&report->starved);
    tessi_spans_fini(&report->shed);
    tessi_free(report->spill_error);
    for (size_t i = 0; i < report->failure_count; i++) {
        tessi_free(report->failures[i].text);
    }
    tessi_free(report->failures);
    *report = (struct tessi_report){0};
}

bool tessi_report_empty(const struct tessi_report *report)
{
    return report->started.count + report->done.count + report->copied.count + report->dropped.count +
               report->adopted.count + report->missing.count + report->stolen.count + report->kept.count +
               report->refused.count + report->starved.count + report->failure_count ==
           0;
}
