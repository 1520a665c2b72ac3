/* A configuration as a trainer wants to read it: TSV, the command line of dlm-train, Megatron-LM's arguments, DeepSpeed's JSON. */
#ifndef DLM_LAW_RECIPE_H
#define DLM_LAW_RECIPE_H

#include "law/configuration.h"

enum dlm_recipe { DLM_RECIPE_TSV, DLM_RECIPE_DLM, DLM_RECIPE_MEGATRON, DLM_RECIPE_DEEPSPEED };

/* DLM_EUSAGE where DeepSpeed's JSON is asked for several configurations: it holds one. DLM_EDATA where a noise type cannot stand
 * on a command line. */
int dlm_recipe_write(const struct dlm_configurations *c, enum dlm_recipe as, FILE *f, const char *name, struct dlm_notes *notes,
                     struct dlm_error *err);

#endif
