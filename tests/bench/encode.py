"""Rows of tests/bench/encode for Hugging Face's tokenizers and tiktoken: one thread, processor time, best of three, the same vocabulary."""
import json, os, sys, time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
vocab, path = sys.argv[1:3]
data = open(path, "rb").read()[1 << 20:3 << 20]
text = data.decode("utf-8", "ignore")
if len(text) < 1 << 20:
    data = open(path, "rb").read()[:2 << 20]
    text = data.decode("utf-8", "ignore")
seen = 0


def row(name, encode):
    global seen
    best = 1e30
    for _ in range(3):
        start = time.process_time()
        encode()
        best = min(best, time.process_time() - start)
    print(f"{name}\t{len(data)}\t{len(data) / best / 1e6:.1f}\tNA", flush=True)
    seen += 1


try:
    import tokenizers
    hf = tokenizers.Tokenizer.from_file(vocab)
    row(f"tokenizers {tokenizers.__version__}", lambda: hf.encode(text))
except ImportError:
    pass
try:
    import tiktoken
    model = json.load(open(vocab))["model"]
    printable = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    points = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
    words = {k: v for k, v in model["vocab"].items() if all(c in points for c in k) and not k.startswith("<|")}
    ranks = {bytes(points[c] for c in k): v for k, v in words.items()}
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    enc = tiktoken.Encoding("dlm", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    row(f"tiktoken {tiktoken.__version__}", lambda: enc.encode_ordinary(text))
except ImportError:
    pass
sys.exit(not seen)
