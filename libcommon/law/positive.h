/* Equations with a symmetric positive definite matrix, as the steps of a fit are: a handful of unknowns. */
#ifndef DLM_LAW_POSITIVE_H
#define DLM_LAW_POSITIVE_H

/* a·x = b, a (n, n) and b (n): both are written over, b with x. The smallest pivot, relative to its diagonal element; ≤ 0: a is not positive definite,
 * and b means nothing. */
double dlm_positive_solve(int n, double *a, double *b);

#endif
