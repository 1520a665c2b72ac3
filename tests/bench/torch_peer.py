"""Peers of the CUDA kernels in PyTorch: rows for tests/bench/cuda. The product of cuBLAS, and scaled-dot-product attention, which is simpler than
ours: it has neither soft cap nor sink. Random inputs, CUDA events, the median of the rounds."""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

rounds = 30


def time_ms(call):
    for _ in range(5):
        call()
    took = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        took.append(start.elapsed_time(end))
    return statistics.median(took)


def row(op, size, ms, flops):
    print("torch", op, size, "bf16", f"{ms:.4f}", f"{flops / ms / 1e6:.1f}", "GFLOP/s", sep="\t", flush=True)


n = 8192
a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
b = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
row("linear", f"square {n}x{n}x{n}", time_ms(lambda: a @ b.T), 2.0 * n**3)
del a, b

for B, N, H, h in ((16, 2048, 12, 64), (8, 2048, 16, 128), (2, 2048, 36, 128), (2, 8192, 16, 128)):
    size = f"{B}x{N}x{H}x{h}"
    q, k, v = (torch.randn(B, H, N, h, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    dout = torch.randn(B, H, N, h, device="cuda", dtype=torch.bfloat16)
    best = {}
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            with sdpa_kernel(backend):
                attend = torch.nn.functional.scaled_dot_product_attention
                out = attend(q, k, v)
                best["attention"] = min(best.get("attention", 1e9), time_ms(lambda: attend(q, k, v)))
                back = time_ms(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
                best["attention_backward"] = min(best.get("attention_backward", 1e9), back)
        except RuntimeError:
            continue
    for op, ms in best.items():
        row(op, size, ms, (4.0 if op == "attention" else 10.0) * B * N * N * H * h)
