/* ScaLAPACK's pdgemm on a grid of MPI ranks: the peer of the matmul bench. tests/bench/matmul builds it when
 * libscalapack-openmpi-dev is installed, and starts it with mpirun.
 *
 * pdgemm N BLOCK ROWS COLUMNS: C = A·B of f64, block-cyclic in blocks of BLOCK, on a grid of ROWS × COLUMNS ranks; one
 * product of two blocks a side first, then the timed one, from a barrier to a barrier. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

/* Fortran and C-BLACS entry points, which have no header. */
void Cblacs_get(int context, int what, int *value);
void Cblacs_gridinit(int *context, const char *order, int rows, int columns);
void Cblacs_gridinfo(int context, int *rows, int *columns, int *row, int *column);
int numroc_(const int *n, const int *block, const int *place, const int *first, const int *count);
void descinit_(int *descriptor, const int *m, const int *n, const int *mb, const int *nb, const int *row,
               const int *column, const int *context, const int *leading, int *info);
void pdgemm_(const char *transpose_a, const char *transpose_b, const int *m, const int *n, const int *k,
             const double *alpha, const double *a, const int *ia, const int *ja, const int *desc_a, const double *b,
             const int *ib, const int *jb, const int *desc_b, const double *beta, double *c, const int *ic,
             const int *jc, const int *desc_c);

static double product(int n, int block, int rows, int columns, double *trace)
{
    const int zero = 0, one = 1;
    const double alpha = 1.0, beta = 0.0;
    int context, row, column, info, descriptor[9];
    Cblacs_get(0, 0, &context);
    Cblacs_gridinit(&context, "Row", rows, columns);
    Cblacs_gridinfo(context, &rows, &columns, &row, &column);
    int height = numroc_(&n, &block, &row, &zero, &rows), width = numroc_(&n, &block, &column, &zero, &columns);
    int leading = height > 1 ? height : 1;
    descinit_(descriptor, &n, &n, &block, &block, &zero, &zero, &context, &leading, &info);
    size_t elements = (size_t)leading * (size_t)(width > 0 ? width : 1);
    double *a = malloc(elements * sizeof *a), *b = malloc(elements * sizeof *b), *c = calloc(elements, sizeof *c);
    if (info != 0 || a == NULL || b == NULL || c == NULL) {
        fprintf(stderr, "error: descinit or memory\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (size_t i = 0; i < elements; i++) {
        a[i] = (double)(i % 1009) / 1009.0 - 0.5;
        b[i] = (double)(i % 997) / 997.0 - 0.5;
        c[i] = 0.0;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    double started = MPI_Wtime();
    pdgemm_("N", "N", &n, &n, &n, &alpha, a, &one, &one, descriptor, b, &one, &one, descriptor, &beta, c, &one, &one,
            descriptor);
    MPI_Barrier(MPI_COMM_WORLD);
    double seconds = MPI_Wtime() - started;
    *trace = c[elements / 2];
    free(a);
    free(b);
    free(c);
    return seconds;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    if (argc < 5) {
        fprintf(stderr, "usage: pdgemm N BLOCK ROWS COLUMNS\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    int n = atoi(argv[1]), block = atoi(argv[2]), rows = atoi(argv[3]), columns = atoi(argv[4]), rank;
    double trace;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)product(n < 2 * block ? n : 2 * block, block, rows, columns, &trace);
    double seconds = product(n, block, rows, columns, &trace);
    if (rank == 0) {
        printf("{\"program\": \"pdgemm\", \"n\": %d, \"block\": %d, \"rows\": %d, \"columns\": %d, \"seconds\": %.6f, "
               "\"trace\": %g}\n",
               n, block, rows, columns, seconds, trace);
    }
    MPI_Finalize();
    return 0;
}
