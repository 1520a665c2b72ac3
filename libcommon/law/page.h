/* report.html: the text of a report, and its figures within the page. */
#ifndef DLM_LAW_PAGE_H
#define DLM_LAW_PAGE_H

#include "law/folder.h"

/* report.txt and the figures must be there. */
int dlm_page_write(struct dlm_folder *o, struct dlm_error *err);

#endif
