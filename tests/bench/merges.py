"""Rows of tests/bench/merges for rustbpe and Hugging Face's tokenizers: RAYON_NUM_THREADS threads, once, the same text and pattern."""
import os, sys, time

path, size = sys.argv[1], int(sys.argv[2])
threads = os.environ["RAYON_NUM_THREADS"]
documents = open(path, encoding="utf8", errors="ignore", newline="").read().split("\n\n")
pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
seen = 0


def row(name, train):
    global seen
    cpu, wall = time.process_time(), time.time()
    train()
    print(f"{name}\t{threads}\t{size}\t{time.process_time() - cpu:.3f}\t{time.time() - wall:.3f}\tNA", flush=True)
    seen += 1


try:
    import rustbpe
    row("rustbpe", lambda: rustbpe.Tokenizer().train_from_iterator(iter(documents), size, pattern=pattern))
except ImportError:
    pass
try:
    from tokenizers import Regex, Tokenizer, __version__, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    row(f"tokenizers {__version__}", lambda: t.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|mask|>"])))
except ImportError:
    pass
sys.exit(not seen)
