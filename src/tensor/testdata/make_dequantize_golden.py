#!/usr/bin/env python3
"""Writes dequantize_golden.bin: random blocks of each GGUF format and their values by the gguf package.

    pip install gguf==0.19.0 numpy==2.4.6 && python3 make_dequantize_golden.py

For each format: name (8 bytes, padded with NUL), u32 number of blocks, the blocks, f32 values. Little-endian.
"""

import pathlib
import struct

import gguf
import numpy as np

BLOCKS = 4
# Where the f16 scales of a block lie; all other bytes are random.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}


def main():
    random = np.random.default_rng(3)
    with open(pathlib.Path(__file__).with_name("dequantize_golden.bin"), "wb") as out:
        for name, scales in SCALES.items():
            kind = gguf.GGMLQuantizationType[name]
            _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (BLOCKS, block_bytes), dtype=np.uint8)
            for offset in scales:
                # Any finite f16, subnormal and negative ones included.
                bits = random.integers(0, 0x7C00, BLOCKS, dtype=np.uint16) | (
                    random.integers(0, 2, BLOCKS, dtype=np.uint16) << 15
                )
                blocks[:, offset : offset + 2] = bits.view(np.uint8).reshape(BLOCKS, 2)
            values = gguf.dequantize(blocks, kind).astype("<f4")
            out.write(name.encode().ljust(8, b"\0") + struct.pack("<I", BLOCKS))
            out.write(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
