# dlm: scaling of discrete diffusion language models.
#
#   make demo     the whole pipeline on a real corpus, from text to a fitted law
#   make check    every test
#   make          build;   make install PREFIX=/usr/local DESTDIR=…
#
# User variables: CC CXX CFLAGS LDFLAGS ARCH PREFIX DESTDIR ONEDNN MPI MPICC CUDA NVCC CUDA_ARCH SAN V. Nothing but nvcc is probed: where there is
# one, the CUDA back end is built, too (CUDA=0: not). What else is missing fails with its name.

CC       = gcc
CXX      = g++
CFLAGS   = -O2 -g
LDFLAGS  =
ARCH     = native
PREFIX   = /usr/local
DESTDIR  =
ONEDNN   = 1
MPI      = 1
MPICC    = mpicc
ifeq ($(origin NVCC),undefined)
NVCC    := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
endif
CUDA     = $(if $(NVCC),1,0)
CUDA_ARCH = 80 90a
SAN      =

VERSION  = 0.1.0
B        = build$(if $(filter fuzzer,$(SAN)),-libfuzzer,$(if $(SAN),-san))$(if $(filter 0,$(ONEDNN)),-plain)
Q        = $(if $(V),,@)

COMMANDS = dlm-tokenize dlm-shard dlm-train dlm-eval dlm-sample dlm-fitlaw
BINS     = $(COMMANDS:%=$B/%)
# loaded at run time: where a launcher started several processes, and where a GPU is asked for
MODULES  = $(if $(filter 0,$(MPI)),,$B/lib/dlm/dlm-mpi.so) $(if $(filter 0,$(CUDA)),,$B/lib/dlm/dlm-cuda.so)

WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Werror
COMMA   := ,
SANFLAGS = $(if $(SAN),-fsanitize=address$(COMMA)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)\
           $(if $(filter fuzzer,$(SAN)),-fsanitize=fuzzer-no-link -Wno-ignored-attributes -Wno-pass-failed)
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

# The CUDA back end: machine code for CUDA_ARCH, and PTX for later ones. `make spills` prints what the kernels take.
CUSRC    = $(wildcard kernels/cuda/*.cu)
CUTESTS  = $(addprefix $B/tests/kernel_,layers linear attention loss draw corrupt optimizer recording)
CUOBJ    = $(CUSRC:%.cu=$B/%.o)
CUFLAGS  = -std=c++17 -O3 -lineinfo -MMD -MP -Werror all-warnings -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
           $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a$(COMMA)code=sm_$a) -gencode arch=compute_90$(COMMA)code=compute_90
$B/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(if $Q,@echo "  NVCC $<")
	$Q$(NVCC) $(CUFLAGS) -Xptxas -v -c -o $@ $< 2>$@.log || { cat $@.log >&2; exit 1; }
$B/lib/dlm/dlm-cuda.so: $(CUOBJ)
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(NVCC) -shared -o $@ $^ -lcublasLt
# On a machine with a GPU: every kernel and training against the CPU, and what is reached, to be kept as bench/GPU.tsv.
check-cuda: all $(CUTESTS) $B/lib/dlm/dlm-cuda.so
	@tests/check-cuda $B
bench-cuda: $B/bench/kernels $B/bench/train $B/lib/dlm/dlm-cuda.so
	@tests/bench/cuda $B
# Kernel, architecture, registers, bytes of stack and of spills. Fails where something is spilled, or Hopper's products are serialized.
spills: $(CUOBJ)
	@tests/spills $(CUOBJ:%=%.log)
	@! grep -h "instructions are serialized" $(CUOBJ:%=%.log)

# The same sources over the emulation in tests/emulate.
EMUOBJ   = $(CUSRC:%.cu=$B/emulated/%.o) $B/emulated/cuda.o $B/emulated/hopper.o $B/emulated/streams.o $B/emulated/cublasLt.o $B/emulated/nccl.o
EMUFLAGS = -std=c++17 -O2 -g -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-psabi -fPIC -fvisibility=hidden -MMD -MP -Itests/emulate
EMULATED = $B/emulated/dlm-cuda.so
$B/emulated/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(if $Q,@echo "  CXX $< (emulated)")
	$Q$(CXX) $(EMUFLAGS) -x c++ -c -o $@ $<
$B/emulated/%.o: tests/emulate/%.cc
	@mkdir -p $(@D)
	$(if $Q,@echo "  CXX $<")
	$Q$(CXX) $(EMUFLAGS) -c -o $@ $<
$(EMULATED): $(EMUOBJ)
	$(if $Q,@echo "  LD $@")
	$Q$(CXX) -shared -Wl,-z,defs -o $@ $^

# --- tests: C programs in tests/unit print TAP, tests/*.bats drive the commands ---------------------------------------------------

UNITSRC  = $(wildcard tests/unit/*.c)
UNITS    = $(UNITSRC:tests/unit/%.c=$B/tests/%)
$B/tests/%: tests/unit/%.c tests/unit/tap.h $B/libdlm.a
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(COMMON) -Ikernels -Itests/unit $(LDFLAGS) -o $@ $< $B/libdlm.a $(KERLIBS) $(LIBS) $(TESTLIBS)

units: $(UNITS)

# As many files at once as there are processors, where nobody said how many.
AT_ONCE  = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
# Preparation comes first and in a make of its own, since the libraries' flags are read when make starts.
prepare:
	@.ci/prepare
check: prepare
	@$(MAKE) --no-print-directory $(AT_ONCE) check-built
check-built: $(BINS) $(MODULES) $(EMULATED) units fuzzers benches
	@tests/run $B $(ONLY)
check-long: prepare
	@DLM_TEST_LONG=1 $(MAKE) --no-print-directory $(AT_ONCE) check-built
	@$(MAKE) --no-print-directory SAN=1 fuzz

# Hostile bytes for each entry point that reads files, FUZZ_SECONDS each. libfuzzer keeps what it found to be new in B/fuzz/corpus.
FUZZERS  = $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/*.c))
FUZZ_SECONDS = 60
fuzzers: $(FUZZERS)
fuzz: $(FUZZERS)
	@tests/fuzz/run $B $(FUZZ_SECONDS) $(ONLY)
libfuzzer:
	@$(MAKE) --no-print-directory SAN=fuzzer CC=$(CC:gcc=clang) fuzz
$B/fuzz/%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) $B/libdlm.a
	@mkdir -p $(@D)
	$(if $Q,@echo "  LD $@")
	$Q$(CC) $(CFLAGS) $(COMMON) $(if $(filter fuzzer,$(SAN)),-fsanitize=fuzzer -DDLM_LIBFUZZER) -Ikernels -Itests/fuzz $(LDFLAGS) -o $@ $< $B/libdlm.a $(KERLIBS) $(LIBS)

# The whole pipeline, in demo/: examples/study.mk with the corpus of a Debian package (or CORPUS=path), one run a core.
demo: prepare
	@$(MAKE) --no-print-directory $(AT_ONCE) all
	@examples/demo $(CURDIR)/$B

# Every benchmark, one after the other, each a table; or one: make bench-sample.
BENCHES  = $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c))
benches: $(BENCHES:%=$B/bench/%)
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
	rm -f $(COMMANDS:%=$(bindir)/%) $(COMMANDS:%=$(compdir)/%) $(EXAMPLES:%=$(exdir)/%) $(moddir)/dlm-mpi.so $(moddir)/dlm-cuda.so
	for m in man/*.[157]; do rm -f $(mandir)/man$${m##*.}/$${m#man/}; done

clean:
	rm -rf build build-san build-plain build-san-plain build-libfuzzer

-include $(LIBOBJ:.o=.d) $(KEROBJ:.o=.d) $(CUOBJ:.o=.d) $(EMUOBJ:.o=.d) $(wildcard $B/cmd/*.d $B/tests/*.d $B/bench/*.d)
.PHONY: all spills check-cuda bench-cuda units fuzzers fuzz libfuzzer prepare check check-built check-long demo bench install uninstall clean
.DELETE_ON_ERROR:
