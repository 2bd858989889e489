#!/usr/bin/env python3
"""vmlinux.py IMAGE OUT: the kernel out of its self-extracting file, which an emulated processor would take seconds for.
Of x86 (Documentation/arch/x86/boot.rst): setup_sects at 0x1f1, payload_offset and payload_length at 0x248. Of arm64
(Documentation/arch/arm64/booting.rst), "ARM\\x64" at 56, there is nothing to unpack."""
import struct
import subprocess
import sys

image = open(sys.argv[1], "rb").read()
if image[56:60] == b"ARM\x64":
    open(sys.argv[2], "wb").write(image)
    sys.exit()
setup = (image[0x1f1] or 4) + 1
offset, length = struct.unpack("<II", image[0x248:0x250])
payload = image[setup * 512 + offset:setup * 512 + offset + length]
# zstd and lz4 are followed by the length that the unpacked kernel has; gzip and xz know it.
packings = {
    b"\x28\xb5\x2f\xfd": (["zstd", "-dcq"], 4),
    b"\x02\x21\x4c\x18": (["lz4", "-dcq"], 4),
    b"\x1f\x8b\x08\x00": (["gzip", "-dcq"], 0),
    b"\xfd7zX": (["xz", "-dcq"], 4),
}
if payload[:4] not in packings:
    sys.exit(f"{sys.argv[1]}: unknown packing {payload[:4].hex()}")
command, tail = packings[payload[:4]]
kernel = subprocess.run(command, input=payload[:len(payload) - tail], stdout=subprocess.PIPE).stdout
if not kernel.startswith(b"\x7fELF") or len(kernel) != struct.unpack("<I", payload[-4:])[0]:
    sys.exit(f"{sys.argv[1]}: cannot be unpacked by {command[0]}")
open(sys.argv[2], "wb").write(kernel)
