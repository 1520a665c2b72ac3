# dlm: scaling of discrete diffusion language models.
#
#   make demo     the whole pipeline on a real corpus, from text to a fitted law
#   make check    every test
#   make          build;   make install PREFIX=/usr/local DESTDIR=…
#
# User variables: CC CFLAGS LDFLAGS ARCH PREFIX DESTDIR ONEDNN MPI MPICC SAN V. Nothing is probed: what is missing fails with its name.

CC       = gcc
CFLAGS   = -O2 -g
LDFLAGS  =
ARCH     = native
PREFIX   = /usr/local
DESTDIR  =
ONEDNN   = 1
MPI      = 1
MPICC    = mpicc
SAN      =

VERSION  = 0.1.0
B        = build$(if $(SAN),-san)$(if $(filter 0,$(ONEDNN)),-plain)
Q        = $(if $(V),,@)

COMMANDS = dlm-tokenize dlm-shard dlm-train dlm-eval dlm-sample dlm-fitlaw
BINS     = $(COMMANDS:%=$B/%)
# loaded at run time, where a launcher started several processes
MODULES  = $(if $(filter 0,$(MPI)),,$B/lib/dlm/dlm-mpi.so)

WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Werror
COMMA   := ,
SANFLAGS = $(if $(SAN),-fsanitize=address$(COMMA)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
PACKAGES = libzstd libpcre2-8 libutf8proc jansson libxxhash
PKGFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKGLIBS  := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
BASE     = -std=gnu11 -D_GNU_SOURCE $(WARN) -fopenmp $(SANFLAGS) $(PKGFLAGS) -MMD -MP
COMMON   = $(BASE) -Ilibcommon -I.
# Host arithmetic is contracted the same way everywhere, so that thresholds and draws are equal on every machine.
LIBFLAGS = $(COMMON) -ffp-contract=off -DDLM_VERSION='"$(VERSION)"' -DDLM_FLAGS='"$(strip $(CFLAGS) -march=$(ARCH) $(if $(SAN),sanitized) $(if $(filter 0,$(ONEDNN)),plain-gemm))"'
KERFLAGS = $(BASE) -Ikernels -O3 -march=$(ARCH) -fno-math-errno -fno-trapping-math $(if $(filter 0,$(ONEDNN)),-DDLM_ONEDNN=0,-DDLM_ONEDNN=1)
LIBS     = $(PKGLIBS) -lm -lpthread
# The tests check the law fits against an independent minimiser.
TESTLIBS := $(shell pkg-config --libs nlopt 2>/dev/null)
KERLIBS  = $(if $(filter 0,$(ONEDNN)),,-ldnnl)

ROOMS    = base text token batch diffuse metric law model run
LIBSRC   = $(foreach r,$(ROOMS),$(wildcard libcommon/$r/*.c))
KERSRC   = $(wildcard kernels/cpu/*.c)
LIBOBJ   = $(LIBSRC:%.c=$B/%.o)
KEROBJ   = $(KERSRC:%.c=$B/%.o)
# tokenize, shard and fitlaw link no kernels
PLAINOBJ = $(filter-out $B/libcommon/model/% $B/libcommon/run/%,$(LIBOBJ))

all: $(BINS) $(MODULES)

$B/%.o: %.c
	@mkdir -p $(@D)
	$(if $Q,@echo "  CC $<")
	$Q$(CC) $(CFLAGS) $(if $(filter kernels/%,$<),$(KERFLAGS),$(LIBFLAGS)) -c -o $@ $<

$B/libdlm-plain.a: $(PLAINOBJ)
	$Qrm -f $@ && ar rcsP $@ $^
$B/libdlm.a: $(LIBOBJ) $(KEROBJ)
	$Qrm -f $@ && ar rcsP $@ $^

$B/dlm-tokenize $B/dlm-shard $B/dlm-fitlaw: $B/%: $B/cmd/%.o $B/cmd/frame.o $B/libdlm-plain.a
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(SANFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(LIBS)
$B/dlm-train $B/dlm-eval $B/dlm-sample: $B/%: $B/cmd/%.o $B/cmd/frame.o $B/libdlm.a
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(SANFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(KERLIBS) $(LIBS)

$B/lib/dlm/dlm-mpi.so: libcommon/run/mpi/exchange.c libcommon/run/exchange.h
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(MPICC) $(CFLAGS) -std=gnu11 $(WARN) -Ilibcommon -shared -fPIC -o $@ $<

# --- tests: C programs in tests/unit print TAP, tests/*.bats drive the commands ---------------------------------------------------

UNITSRC  = $(wildcard tests/unit/*.c)
UNITS    = $(UNITSRC:tests/unit/%.c=$B/tests/%)
$B/tests/%: tests/unit/%.c tests/unit/tap.h $B/libdlm.a
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(COMMON) -Ikernels -Itests/unit $(LDFLAGS) -o $@ $< $B/libdlm.a $(KERLIBS) $(LIBS) $(TESTLIBS)

units: $(UNITS)

# Preparation comes first and in a make of its own, since the libraries' flags are read when make starts.
prepare:
	@.ci/prepare
check: prepare
	@$(MAKE) --no-print-directory check-built
check-built: $(BINS) $(MODULES) units fuzzers
	@tests/run $B $(ONLY)
check-long: prepare
	@DLM_TEST_LONG=1 $(MAKE) --no-print-directory check-built
	@$(MAKE) --no-print-directory SAN=1 fuzz

# Hostile bytes for each entry point that reads files, FUZZ_SECONDS each.
FUZZERS  = $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_SECONDS = 60
fuzzers: $(FUZZERS)
fuzz: $(FUZZERS)
	@tests/fuzz/run $B $(FUZZ_SECONDS)
$B/fuzz/%: tests/fuzz/%.c tests/fuzz/fuzz.h tests/fuzz/ranks_seed.h $B/libdlm.a
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(COMMON) -Ikernels -Itests/fuzz $(LDFLAGS) -o $@ $< $B/libdlm.a $(KERLIBS) $(LIBS)

# The whole pipeline, in demo/: examples/study.mk with the corpus of a Debian package (or CORPUS=path), one run a core.
demo: prepare
	@$(MAKE) --no-print-directory all
	@examples/demo $(CURDIR)/$B

# Every benchmark, one after the other, each a table; or one: make bench-sample.
BENCHES  = $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c))
bench: $(BENCHES:%=bench-%)
bench-%: prepare
	@$(MAKE) --no-print-directory $B/bench/$*
	@$B/bench/$*
$B/bench/%: tests/bench/%.c $B/libdlm.a
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(COMMON) -Ikernels -Itests/unit $(LDFLAGS) -o $@ $< $B/libdlm.a $(KERLIBS) $(LIBS)

# --- installation -----------------------------------------------------------------------------------------------------------------

bindir   = $(DESTDIR)$(PREFIX)/bin
mandir   = $(DESTDIR)$(PREFIX)/share/man
compdir  = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
moddir   = $(DESTDIR)$(PREFIX)/lib/dlm
exdir    = $(DESTDIR)$(PREFIX)/share/doc/dlm/examples
EXAMPLES = study.mk cloze.awk guess.awk convert judge-python harness harness.py
install: all
	install -d $(bindir) $(mandir)/man1 $(mandir)/man5 $(mandir)/man7 $(compdir) $(exdir) $(moddir)
	install -m 755 $(BINS) $(bindir)
	$(if $(MODULES),install -m 644 $(MODULES) $(moddir))
	install -m 644 man/*.1 $(mandir)/man1
	install -m 644 man/*.5 $(mandir)/man5
	install -m 644 man/*.7 $(mandir)/man7
	install -m 644 cmd/completion.bash $(compdir)/dlm-train
	for c in $(filter-out dlm-train,$(COMMANDS)); do ln -sf dlm-train $(compdir)/$$c; done
	install -m 755 $(EXAMPLES:%=examples/%) $(exdir)
uninstall:
	rm -f $(COMMANDS:%=$(bindir)/%) $(COMMANDS:%=$(compdir)/%) $(EXAMPLES:%=$(exdir)/%) $(moddir)/dlm-mpi.so
	for m in man/*.[157]; do rm -f $(mandir)/man$${m##*.}/$${m#man/}; done

clean:
	rm -rf build build-san build-plain build-san-plain

-include $(LIBOBJ:.o=.d) $(KEROBJ:.o=.d) $(wildcard $B/cmd/*.d $B/tests/*.d $B/bench/*.d)
.PHONY: all units fuzzers fuzz prepare check check-built check-long demo bench install uninstall clean
.DELETE_ON_ERROR:
