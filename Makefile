# make            one static executable, ./dhow
# make test       unit tests and scenarios (as root: containers too); installs what they use
# make demo       builds it, makes an image from the distribution's busybox, and runs it
# make bench      figures beside crun, podman, skopeo and the kernel's own part
# make install    the file and its links; PREFIX, DESTDIR; LINKS_DOCKER=1 adds docker, dockerd and runc
# make check      formatting and lints

COMMA := ,
PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

# musl where Rust and a C compiler for it are there, the C library of the distribution linked in otherwise.
TARGET := $(shell contrib/target)
KEY := $(shell echo $(TARGET) | tr a-z- A-Z_)
BUILT := target/$(TARGET)/release/dhow

# Of zstd only the fastest strategy is there to write with: what is written are recipes of layers.
CFLAGS_ZSTD := $(patsubst %,-DZSTD_EXCLUDE_%_BLOCK_COMPRESSOR,DFAST GREEDY LAZY LAZY2 BTLAZY2 BTOPT BTULTRA)
export CFLAGS_$(shell echo $(TARGET) | tr - _) = $(CFLAGS_ZSTD)
# Of zstd's decoders one of two for each of its parts, not much slower than the better one where that is chosen at run
# time (1 %), and nothing aligned. Of ring the small curves.
CFLAGS_SMALL := -fno-align-functions -fno-align-loops -fno-align-jumps -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT \
	-DHUF_FORCE_DECOMPRESS_X1 -DOPENSSL_SMALL

# At a fixed address there is nothing to relocate at the start, and no relocated page in every shim that waits. Without
# tables for unwinding, which nothing reads, it is a tenth smaller. What a start calls stands first (see contrib/order/make),
# by names that say which of many a generic function is. What is often the same is there once (the outliner), where that
# gains twelve bytes, which costs a run nothing: for one byte it would be 4 % longer, and the file 0.1 MB smaller. More is the same
# where variables are addressed by the frame pointer, which takes fewer bytes, too. Cases are told apart by comparisons where
# a table of addresses would hold few or would have holes. Where cargo keeps sources is nobody's business.
# What contrib/zstd.ld names is cut off.
# `=` and not `?=`: a build is the same whatever the environment says.
RELEASE := CARGO_TARGET_$(KEY)_RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static \
	-C symbol-mangling-version=v0 -C force-frame-pointers=yes \
	-C llvm-args=-enable-machine-outliner=always -C llvm-args=-outliner-benefit-threshold=12 \
	-C llvm-args=-optsize-jump-table-density=75 -C llvm-args=-min-jump-table-entries=6 \
	$(patsubst %,-C link-arg=-Wl$(COMMA)-T$(COMMA)contrib/%.ld,order plain) -C link-arg=contrib/ring.ld -C link-arg=contrib/zstd.ld \
	$(patsubst %,-C link-arg=-Wl$(COMMA)--wrap=%,$(shell sed -n 's/^__wrap_\([^ ]*\) .*/\1/p' contrib/zstd.ld)) -C link-arg=-Wl,--no-eh-frame-hdr \
	--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src/=" \
	CFLAGS_$(shell echo $(TARGET) | tr - _)="$(CFLAGS_ZSTD) $(CFLAGS_SMALL)"
ifneq (,$(findstring musl,$(TARGET)))
export CC_$(shell echo $(TARGET) | tr - _) = musl-gcc
endif

.PHONY: dhow order test test-build test-run demo bench install check clean

dhow:
	@# Cargo knows nothing of the linker's scripts.
	@for script in contrib/*.ld; do [ $(BUILT) -nt $$script ] || touch src/main.rs; done
	$(RELEASE) $(CARGO) build --release --locked --target $(TARGET)
	install -m 755 $(BUILT) dhow.new
	mv dhow.new dhow
	@ldd ./dhow 2>&1 | sed 's/^[[:space:]]*/.\/dhow: /'

# Writes contrib/order.ld anew.
order:
	CARGO_PROFILE_RELEASE_STRIP=none $(RELEASE) $(CARGO) build --release --locked --target $(TARGET) --target-dir target/order
	contrib/order/make target/order/$(TARGET)/release/dhow

# What is installed here decides which target is chosen, so the rest is a make of its own.
test:
	contrib/needs test
	$(MAKE) test-run

test-build:
	$(CARGO) test --locked --target $(TARGET) --features failpoints --no-run
	@# libFuzzer is C++. Where its compiler is missing, what needs it says so.
	! command -v c++ >/dev/null || fuzz/build quick

# Most scenarios wait for something most of the time: more run at once than there are processors.
test-run:
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(( $$(nproc) * 2 ))} $(CARGO) test --locked --target $(TARGET) --features failpoints

demo:
	contrib/needs demo
	$(MAKE) dhow
	contrib/demo

bench:
	contrib/needs bench
	$(MAKE) dhow
	bench/run

install: dhow
	install -D -m 755 dhow $(DESTDIR)$(PREFIX)/bin/dhow
	for link in $$(./dhow links) $(if $(LINKS_DOCKER),docker dockerd runc); do \
		ln -sf dhow $(DESTDIR)$(PREFIX)/bin/$$link || exit 1; \
	done

check:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/clients/rust/Cargo.toml
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --locked --target $(TARGET) --all-targets --features failpoints -- -D warnings

clean:
	$(CARGO) clean
	rm -f dhow dhow.new
