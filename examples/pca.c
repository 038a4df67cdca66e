/* Principal components of a table of measures: reductions, broadcasting and one product on the cluster, the
 * eigenvectors of the small correlation matrix here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera.h"

#define COLUMNS_MAX 64
#define SWEEPS 50

static const char help[] =
    "Examples:\n"
    "  pca                                   the tumour measures in examples/data\n"
    "  pca --data table.npy --scheduler tcp://node1:8786\n"
    "\n"
    "Usage: pca [options]\n"
    "Standardises the columns of a table (rows: samples; 2 to 64 columns) and prints how much of their variance the\n"
    "first principal components explain.\n"
    "\n"
    "  --data FILE.npy      the table (examples/data/features.npy)\n"
    "  --chunk C            rows in a block (128)\n"
    "  --scheduler ADDRESS  use the cluster there; default: one inside this program\n"
    "  --keys DIR           keys of that cluster\n"
    "  --help               this text\n";

struct options {
    const char *data, *scheduler, *keys, *chunk;
};

/* −1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *options)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"--data", &options->data},
                 {"--chunk", &options->chunk},
                 {"--scheduler", &options->scheduler},
                 {"--keys", &options->keys}};
    for (int i = 1; i < argc; i++) {
        bool found = false;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
            if (strcmp(argv[i], known[k].name) == 0 && i + 1 < argc) {
                *known[k].value = argv[++i];
                found = true;
                break;
            }
        }
        if (!found) {
            fprintf(stderr, "pca: %s: unknown option, or its value is missing; see pca --help\n", argv[i]);
            return 2;
        }
    }
    return -1;
}

/* Eigenvalues of a symmetric matrix, by cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, 8.5). */
static void eigenvalues(double *a, int64_t n, double *values)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        for (int64_t p = 0; p < n; p++) {
            for (int64_t q = p + 1; q < n; q++) {
                if (fabs(a[p * n + q]) < 1e-300) {
                    continue;
                }
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
                double t = copysign(1.0, theta) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1);
                double s = t * c;
                for (int64_t k = 0; k < n; k++) {
                    double kp = a[k * n + p];
                    double kq = a[k * n + q];
                    a[k * n + p] = c * kp - s * kq;
                    a[k * n + q] = s * kp + c * kq;
                }
                for (int64_t k = 0; k < n; k++) {
                    double pk = a[p * n + k];
                    double qk = a[q * n + k];
                    a[p * n + k] = c * pk - s * qk;
                    a[q * n + k] = s * pk + c * qk;
                }
            }
        }
    }
    for (int64_t i = 0; i < n; i++) {
        values[i] = a[i * n + i];
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x < y) - (x > y);
}

static int run(tess_session *session, const struct options *options)
{
    double correlation[COLUMNS_MAX * COLUMNS_MAX];
    double values[COLUMNS_MAX];
    int64_t chunk = options->chunk != NULL ? strtoll(options->chunk, NULL, 10) : 128;
    if (chunk <= 0) {
        fprintf(stderr, "pca: --chunk %s: give a whole number from 1 on\n", options->chunk);
        return 2;
    }
    tess_array *x = tess_from_npy(session, options->data, TESS_CHUNKS(chunk, -1));
    tess_shape shape = tess_array_shape(x);
    if (tess_array_status(x) == TESS_OK && (shape.ndim != 2 || shape.dim[1] < 2 || shape.dim[1] > COLUMNS_MAX)) {
        fprintf(stderr, "pca: %s is not a table of 2 to %d columns: give another one with --data\n", options->data,
                COLUMNS_MAX);
        return 1;
    }
    tess_array *centred = tess_subtract(x, tess_mean(x, TESS_AXIS(0), true));
    tess_array *variance = tess_mean(tess_multiply(centred, centred), TESS_AXIS(0), true);
    tess_array *standard = tess_divide(centred, tess_sqrt(variance));
    tess_array *products = tess_matmul(tess_transpose(standard), standard);
    tess_array *matrix = tess_astype(tess_divide_scalar(products, (double)shape.dim[0]), TESS_F64);
    int64_t n = shape.dim[1];
    if (tess_read(matrix, correlation, tess_array_bytes(matrix)) != TESS_OK) {
        fprintf(stderr, "pca: %s\n", tess_session_error(session));
        return 1;
    }
    eigenvalues(correlation, n, values);
    qsort(values, (size_t)n, sizeof *values, descending);
    printf("%lld samples, %lld columns\n", (long long)shape.dim[0], (long long)n);
    double total = 0;
    for (int64_t i = 0; i < n && i < 5; i++) {
        total += values[i] / (double)n;
        printf("component %lld explains %5.2f %% of the variance, together %5.2f %%\n", (long long)i + 1,
               100 * values[i] / (double)n, 100 * total);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.data = "examples/data/features.npy"};
    int code = parse(argc, argv, &options);
    if (code >= 0) {
        return code;
    }
    tess_session *session = tess_session_open(options.scheduler, &(tess_session_options){.keys_dir = options.keys});
    code = run(session, &options);
    tess_session_close(session);
    return code;
}
