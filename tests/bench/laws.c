/* make bench: what fitting laws costs, TSV on standard output: work, threads, fits, seconds, fits per second, against SciPy.
 *
 *   surface    240 points of 40 runs, five parameters, 4,000 resamples; where a python3 with scipy is found (DLM_BENCH_PYTHON, else
 *              python3), the same resamples by its BFGS (tests/bench/laws.py), a sample of them timed in this run and scaled
 *   analysis   26 fits of 5 groups, 10,000 resamples each: the kinds of method.md §7, through the functions that dlm-fitlaw calls,
 *              bands and intervals included
