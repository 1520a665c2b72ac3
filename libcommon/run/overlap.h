/* How far one text agrees with another: exact match, F1 of words, ROUGE-1, -2 and -L. Pure comparison of bytes.
 *
 * Exact match compares after white space at the ends is dropped and every run of it within is one space.
 * Word F1 is that of SQuAD (Rajpurkar et al. 2016): ASCII letters lowered, ASCII punctuation deleted, the words a, an, the left out, words parted by white
 * space; the harmonic mean of precision and recall of the words as a multiset.
 * ROUGE (Lin 2004) is F1 of n-grams, and of the longest common subsequence, of words that are runs of lowered ASCII letters, digits and bytes outside ASCII;
 * nothing is stemmed. Where there are no such n-grams in one of the texts it is 0, as in the implementations that scores are published with; word F1 of
 * two texts without words is 1. No memory: NAN.
 */
#ifndef DLM_RUN_OVERLAP_H
#define DLM_RUN_OVERLAP_H

#include <stdbool.h>
#include <stddef.h>

bool dlm_overlap_exact(const char *a, size_t na, const char *b, size_t nb);
double dlm_overlap_f1(const char *a, size_t na, const char *b, size_t nb);
/* n ≥ 1. */
double dlm_overlap_rouge_n(const char *a, size_t na, const char *b, size_t nb, size_t n);
double dlm_overlap_rouge_l(const char *a, size_t na, const char *b, size_t nb);

#endif
