/* Least squares on twenty lines: fits y = X·w by solving the normal equations with gradient steps. */
#include "tessera.h"
#include <stdio.h>

int main(void)
{
    tess_session *s = tess_session_open(NULL, NULL); /* a cluster inside this process; or "tcp://host:8786" */
    tess_array *x = tess_random_normal(s, TESS_SHAPE(200000, 64), TESS_F64, 0, 1, 1, TESS_CHUNKS(20000, 64));
    tess_array *truth = tess_arange(s, 0, 64, 1, TESS_F64, TESS_AUTO);
    tess_array *y = tess_sum(tess_multiply(x, truth), TESS_AXIS(1), true); /* broadcasts, as in NumPy */
    tess_array *xtx = tess_divide_scalar(tess_matmul(tess_transpose(x), x), 200000);
    tess_array *xty = tess_divide_scalar(tess_matmul(tess_transpose(x), y), 200000);
    tess_persist_all((tess_array *[]){xtx, xty}, 2); /* computed once, kept on the cluster */

    tess_array *w = tess_zeros(s, TESS_SHAPE(64, 1), TESS_F64, TESS_AUTO);
    for (int step = 0; step < 20; step++) {
        w = tess_subtract(w, tess_subtract(tess_matmul(xtx, w), xty));
    }
    double fitted[64];
    tess_status status = tess_read(w, fitted, sizeof fitted); /* the only place where an error can come up */
    if (status != TESS_OK) {
        fprintf(stderr, "twenty_lines: %s\n", tess_session_error(s));
    } else {
        printf("w[1] = %.6f, w[63] = %.6f\n", fitted[1], fitted[63]);
    }
    tess_session_close(s);
    return status == TESS_OK ? 0 : 1;
}
