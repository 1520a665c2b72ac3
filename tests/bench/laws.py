# The same surface by SciPy: resample runs, minimise the sum of Huber's function of log residuals by BFGS from the full fit. Prints seconds a fit.
# usage: laws.py POINTS     (run, log size, log tokens, log loss)
import sys
import time

try:
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import huber, logsumexp
except ImportError as e:
    print(e)
    sys.exit(0)

run, m, d, y = np.loadtxt(sys.argv[1]).T
runs = np.unique(run)


def fit(start, w):
    def f(q):
        r = np.logaddexp(np.logaddexp(q[1] - q[2] * m, q[3] - q[4] * d), q[0]) - y
        return 1e6 * np.sum(w * huber(1e-3, r))

    return minimize(f, start, method="BFGS")


full = fit(np.array([np.log(2.0), np.log(200.0), 0.3, np.log(2000.0), 0.35]), np.ones(len(y)))
draw = np.random.default_rng(1)
n, t = 0, time.perf_counter()
while n < 10 or time.perf_counter() - t < 5:
    counts = np.bincount(draw.integers(len(runs), size=len(runs)), minlength=len(runs))
    fit(full.x, counts[np.searchsorted(runs, run)].astype(float))
    n += 1
print("seconds_per_fit", (time.perf_counter() - t) / n)
