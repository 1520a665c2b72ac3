/* Cholesky's decomposition and the two substitutions; see positive.h. */
#include "law/positive.h"

#include <math.h>

double dlm_positive_solve(int n, double *a, double *b)
{
    double least = INFINITY;
    for (int j = 0; j < n; j++) {
        double diagonal = a[j * n + j], d = diagonal;
        for (int k = 0; k < j; k++)
            d -= a[j * n + k] * a[j * n + k];
        if (!(d > 0) || !(diagonal > 0))
            return 0;
        least = fmin(least, d / diagonal);
        d = sqrt(d);
        a[j * n + j] = d;
        for (int i = j + 1; i < n; i++) {
            double v = a[i * n + j];
            for (int k = 0; k < j; k++)
                v -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = v / d;
        }
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            b[i] -= a[i * n + k] * b[k];
        b[i] /= a[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            b[i] -= a[k * n + i] * b[k];
        b[i] /= a[i * n + i];
    }
    return least;
}
