"""Checkpoints read and written without any code of this project: what tests/interchange.bats compares dlm with.

    list DIR            name, dtype, shape and SHA-256 of every tensor, as a plain reader of the format finds them
    package DIR         the same through the safetensors package
    expect DIR          name, dtype and shape as method.md section 4 has them for config.json, whose keys are checked
    publish DIR OUT HOW rounded to bf16, in two shards with an index: the form of published checkpoints. HOW: plain or package
    round DIR OUT       rounded to bf16, kept as float32 in one file
    forward DIR         lines of `dlm-eval --logits` on standard input: their largest deviation from the network in double

Standard library alone but for `package`; numbers are Python's doubles.
"""
import hashlib
import json
import math
import os
import shutil
import struct
import sys


def read_file(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    assert size % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}, "transformers loads format 'pt' only"
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items()}


def read_package(path):
    from safetensors import deserialize
    with open(path, "rb") as f:
        return {k: (v["dtype"], v["shape"], bytes(v["data"])) for k, v in deserialize(f.read())}


def read(directory, reader=read_file):
    index = os.path.join(directory, "model.safetensors.index.json")
    if not os.path.exists(index):
        return reader(os.path.join(directory, "model.safetensors"))
    with open(index) as f:
        files = sorted(set(json.load(f)["weight_map"].values()))
    tensors = {}
    for name in files:
        tensors.update(reader(os.path.join(directory, name)))
    return tensors


def config(directory):
    with open(os.path.join(directory, "config.json")) as f:
        return json.load(f)


def show(tensors):
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        print(name, dtype, shape, hashlib.sha256(data).hexdigest(), sep="\t")


KEYS = {
    int: "hidden_size intermediate_size num_hidden_layers num_attention_heads head_dim vocab_size max_position_embeddings",
    float: "rope_theta rms_norm_eps attn_soft_cap resid_scale init_scale emb_init_scale head_init_scale weight_scaling head_scaling "
           "noise_type min_log_snr max_log_snr",
    bool: "use_qk_norm attention_bias mlp_bias tie_word_embeddings",
    str: "model_type",
}


def expect(directory):
    c = config(directory)
    for kind, names in KEYS.items():
        for name in names.split():
            assert type(c[name]) is kind, (name, c.get(name))
    assert c["model_type"] == "gidd" and c["architectures"] == ["GiddForDiffusionLM"]
    d, m, h, v = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["vocab_size"]
    shapes = {"model.embed_tokens.weight": [v, d], "lm_head.weight": [v, d], "model.norm.weight": [d]}
    for i in range(c["num_hidden_layers"]):
        layer = {"self_attn.%s_proj.weight" % x: [d, d] for x in "qkvo"}
        layer.update({"self_attn.%s_norm.weight" % x: [d] for x in "qk"})
        layer.update({"self_attn.%s_bias" % x: [h, d // h] for x in "kv"})
        layer.update({"attn_layernorm.weight": [d], "mlp_layernorm.weight": [d], "mlp.up_proj.weight": [m, d], "mlp.up_proj.bias": [m],
                      "mlp.down_proj.weight": [d, m], "mlp.down_proj.bias": [d]})
        shapes.update({"model.layers.%d.%s" % (i, k): s for k, s in layer.items()})
    for name in sorted(shapes):
        print(name, {"float32": "F32", "bfloat16": "BF16"}[c["dtype"]], shapes[name], sep="\t")


def rounded(bits):
    """float32 bits to those of bf16, to the nearest, ties to even."""
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16


def halves(data):
    return [rounded(b) for b in struct.unpack("<%dI" % (len(data) // 4), data)]


def write_plain(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def write_package(path, tensors):
    from safetensors import serialize_file
    names = {"BF16": "bfloat16", "F32": "float32"}
    serialize_file({k: {"dtype": names[t], "shape": s, "data": data} for k, (t, s, data) in tensors.items()}, path, {"format": "pt"})


def copy(directory, out, **changes):
    os.mkdir(out)
    c = config(directory)
    c.update(changes)
    # As published: special ids that every reader of the form knows are not named.
    for key in ("mask_token_id", "pad_token_id"):
        c.pop(key, None)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(c, f, indent=2)
    shutil.copy(os.path.join(directory, "tokenizer.json"), out)


def publish(directory, out, how):
    copy(directory, out, dtype="bfloat16")
    tensors = {k: ("BF16", s, struct.pack("<%dH" % (len(data) // 4), *halves(data))) for k, (_, s, data) in read(directory).items()}
    shards = [{}, {}]
    for i, name in enumerate(sorted(tensors)):
        shards[i % 2][name] = tensors[name]
    weight_map = {}
    for i, shard in enumerate(shards):
        file = "model-%05d-of-%05d.safetensors" % (i + 1, len(shards))
        (write_package if how == "package" else write_plain)(os.path.join(out, file), shard)
        weight_map.update(dict.fromkeys(shard, file))
    with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())}, "weight_map": weight_map}, f, indent=2)


def round_to(directory, out):
    copy(directory, out)
    write_plain(os.path.join(out, "model.safetensors"), {
        k: ("F32", s, struct.pack("<%dI" % (len(data) // 4), *(b << 16 for b in halves(data)))) for k, (_, s, data) in read(directory).items()})


class Network:
    """method.md section 4, a vector a position."""

    def __init__(self, directory):
        self.c = config(directory)
        self.w = {}
        for name, (dtype, shape, data) in read(directory).items():
            if dtype == "BF16":
                data = b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2))
            flat = struct.unpack("<%df" % (len(data) // 4), data)
            self.w[name] = [flat[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])] if len(shape) == 2 else flat

    def norm(self, x, gamma):
        size = math.sqrt(sum(a * a for a in x) / len(x) + self.c["rms_norm_eps"])
        return [(1 + g) * a / size for a, g in zip(x, gamma)]

    def rotate(self, x, position):
        half = len(x) // 2
        out = [0.0] * len(x)
        for i in range(half):
            angle = position * self.c["rope_theta"] ** (-i / half)
            a, b = x[i], x[i + half]
            out[i], out[i + half] = a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)
        return out

    def attend(self, x, at, noisy):
        heads, h, cap = self.c["num_attention_heads"], self.c["head_dim"], self.c["attn_soft_cap"]
        scale = self.c["weight_scaling"]
        y = [self.norm(v, self.w[at + "attn_layernorm.weight"]) for v in x]
        q, k, v = ([times(self.w[at + "self_attn.%s_proj.weight" % p], a, scale) for a in y] for p in "qkv")
        q, k = ([self.norm(a, self.w[at + "self_attn.%s_norm.weight" % p]) for a in t] for p, t in (("q", q), ("k", k)))
        out = []
        for i in range(len(x)):
            row = []
            for a in range(heads):
                part = slice(a * h, (a + 1) * h)
                query = self.rotate(q[i][part], i)
                keys = [self.w[at + "self_attn.k_bias"][a]] + [self.rotate(k[j][part], j) for j in range(len(x)) if noisy[i] >= noisy[j]]
                values = [self.w[at + "self_attn.v_bias"][a]] + [v[j][part] for j in range(len(x)) if noisy[i] >= noisy[j]]
                share = [math.exp(cap * math.tanh(dot(query, key) / math.sqrt(h) / cap)) for key in keys]
                row += [sum(s * value[e] for s, value in zip(share, values)) / sum(share) for e in range(h)]
            out.append(times(self.w[at + "self_attn.o_proj.weight"], row, scale))
        return out

    def mlp(self, x, at):
        scale = self.c["weight_scaling"]
        y = self.norm(x, self.w[at + "mlp_layernorm.weight"])
        up = times(self.w[at + "mlp.up_proj.weight"], y, scale)
        up = [max(a + b, 0) ** 2 for a, b in zip(up, self.w[at + "mlp.up_proj.bias"])]
        down = times(self.w[at + "mlp.down_proj.weight"], up, scale)
        return [a + b for a, b in zip(down, self.w[at + "mlp.down_proj.bias"])]

    def logits(self, ids, clean):
        noisy = [i >= clean for i in range(len(ids))]
        x = [list(self.w["model.embed_tokens.weight"][i]) for i in ids]
        share = self.c["resid_scale"] / self.c["num_hidden_layers"]
        for layer in range(self.c["num_hidden_layers"]):
            at = "model.layers.%d." % layer
            x = [[a + share * b for a, b in zip(*pair)] for pair in zip(x, self.attend(x, at, noisy))]
            x = [[a + share * b for a, b in zip(v, self.mlp(v, at))] for v in x]
        return [times(self.w["lm_head.weight"], self.norm(v, self.w["model.norm.weight"]), self.c["head_scaling"]) for v in x]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def times(matrix, x, scale):
    return [scale * dot(row, x) for row in matrix]


def forward(directory):
    network, worst, largest, lines = Network(directory), 0.0, 0.0, 0
    for line in sys.stdin:
        answer = json.loads(line)
        want = network.logits(answer["ids"], answer.get("clean", 0))
        assert [len(r) for r in want] == [len(r) for r in answer["logits"]]
        for got, row in zip(answer["logits"], want):
            worst = max([worst] + [abs(a - b) for a, b in zip(got, row)])
            largest = max([largest] + [abs(b) for b in row])
        lines += 1
    print("%d lines, largest deviation %.2g of the largest logit, %.3g" % (lines, worst / largest, largest))
    assert lines and worst <= 1e-5 * largest


if __name__ == "__main__":
    {"list": lambda d: show(read(d)), "package": lambda d: show(read(d, read_package)), "expect": expect, "publish": publish, "round": round_to,
     "forward": forward}[sys.argv[1]](*sys.argv[2:])
