# A scaling study as a Makefile: objectives × sizes, each run for its own share of tokens, then the laws.
#
#   make -f study.mk -j2                         make is the scheduler: two runs at a time
#   make -f study.mk RUN='mpirun -n 4'           a prefix before each training command (or 'srun --gpus-per-task=1 -n 4')
#   make -f study.mk CORPUS=books.jsonl.zst      any text, JSON Lines (field "text") or zstd file of either
#
#   make -f study.mk tasks.tsv                   besides the laws: tasks made of held-out text, for the models of the last size
#
# Interrupt it anywhere and repeat it: finished targets stay, a killed run goes on from its checkpoint. Edit the tables below for a study of your own.

CORPUS     ?= corpus.txt
RUN        ?=
THREADS    ?= 1
V          ?= 4096
N          ?= 128
BATCH      ?= 8
SEED       ?= 0
EPOCHS     ?= 1
EVAL       ?= 131072
ITEMS      ?= 1000
CHOICES    ?= 250
OBJECTIVES ?= masked balanced uniform ar
SIZES      ?= s1 s2 s3 s4 s5

# A size: width, layers, heads, steps. Wider models get more tokens, so that the runs spread over budgets. The learning rate is chosen for stability
# at this batch; a study worth publishing sweeps both.
shape_s1   ?= --width 32 --layers 2 --heads 2 --steps 600
shape_s2   ?= --width 48 --layers 3 --heads 3 --steps 900
shape_s3   ?= --width 64 --layers 3 --heads 4 --steps 1200
shape_s4   ?= --width 80 --layers 4 --heads 5 --steps 1400
shape_s5   ?= --width 96 --layers 4 --heads 6 --steps 1600
LR         ?= 0.2
WARMUP     ?= 100
TRAIN      ?= --batch $(BATCH) --epochs $(EPOCHS) --lr $(LR) --warmup $(WARMUP) --log-every 50 --eval-every 200 --eval-tokens 32768 --save-every 200 --dtype f32

objective   = $(if $(filter ar,$1),--objective ar,--noise $1)
INPUT       = $(if $(findstring .jsonl,$(CORPUS)),--jsonl text,--split blank)
NAMES       = $(foreach o,$(OBJECTIVES),$(foreach s,$(SIZES),$o-$s))
RUNS        = $(NAMES:%=runs/%.tsv)
EVALS       = $(NAMES:%=runs/%.eval)

HERE       := $(dir $(lastword $(MAKEFILE_LIST)))
TASKS       = $(OBJECTIVES:%=runs/%-$(lastword $(SIZES)).tasks)

all: law.tsv law.svg eval.tsv study/report.txt

vocab.json: $(CORPUS)
	dlm-tokenize --train -V $(V) $(INPUT) -o $@ $(CORPUS)

# dlm-shard writes a directory whole or not at all.
data/manifest.tsv: vocab.json $(CORPUS)
	rm -rf data
	dlm-tokenize -t vocab.json $(INPUT) $(CORPUS) | dlm-shard -n $(N) --val 0.02 -s $(SEED) -o data

# The words of runs/OBJECTIVE-SIZE.
define run
runs/$1-$2.tsv: data/manifest.tsv
	@mkdir -p runs
	@$(RUN) dlm-train --continue -d data -o runs/$1-$2.ckpt --run $1-$2 --metrics $$@.part $(call objective,$1) $(shape_$2) $(TRAIN) \
	    -s $(SEED) -j $(THREADS) && mv $$@.part $$@
	@echo "$1-$2: $$$$(awk -F'\t' '$$$$2 == "val" { last = $$$$18 " ± " $$$$19 " nats/token after " $$$$14 " tokens" } END { print last }' $$@)"
endef
$(foreach o,$(OBJECTIVES),$(foreach s,$(SIZES),$(eval $(call run,$o,$s))))

runs/%.eval: runs/%.tsv
	@dlm-eval -c runs/$*.ckpt -d data --tokens $(EVAL) -s $(SEED) -j $(THREADS) -o $@

eval.tsv: $(EVALS)
	@awk 'FNR > 1 || NR == 1' $^ > $@.part && mv $@.part $@

# Words left out of held-out texts: to be filled in, or to be told from three others. No text of N bytes has more than N tokens.
held_out    = dlm-shard --cat data --split val | dlm-tokenize -d --split nul | tr '\n\0' '\001\n' | LC_ALL=C awk -v bytes=$(N)

cloze.jsonl: data/manifest.tsv
	@$(held_out) -v items=$(ITEMS) -f $(HERE)cloze.awk > $@
choice.jsonl: data/manifest.tsv
	@$(held_out) -v items=$(CHOICES) -v choices=4 -f $(HERE)cloze.awk > $@

runs/%.tasks: runs/%.tsv cloze.jsonl choice.jsonl
	@dlm-eval -c runs/$*.ckpt --task cloze.jsonl --task choice.jsonl --steps 8 --levels 16 -s $(SEED) -j $(THREADS) -o $@

# What chance and the words' frequencies in the training text get, and each model.
tasks.tsv: cloze.jsonl choice.jsonl $(TASKS)
	@{ dlm-shard --cat data --split train | dlm-tokenize -d 2>/dev/null | head -c 4000000 | \
	    LC_ALL=C awk -v OFS='\t' -f $(HERE)guess.awk - cloze.jsonl choice.jsonl; awk 'FNR > 1' $(TASKS); } > $@.part && mv $@.part $@

law.tsv: $(RUNS)
	@cat $^ | dlm-fitlaw loss -s $(SEED) -o $@

law.svg: $(RUNS)
	@dlm-fitlaw plot -q -s $(SEED) -o $@ $^

# Every analysis that these runs allow, with figures and a report.
study/report.txt: $(RUNS)
	@dlm-fitlaw study -q -s $(SEED) -j $(THREADS) -o study $^ && touch $@

.PHONY: all
.DELETE_ON_ERROR:
