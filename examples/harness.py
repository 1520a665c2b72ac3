"""EleutherAI's lm-evaluation-harness on a dlm checkpoint: a model whose loglikelihood() asks one `dlm-eval --score`.

    import harness; lm_eval.simple_evaluate(model="dlm", model_args="checkpoint=CKPT,levels=128", tasks=[...])
    python3 examples/harness.py CKPT [OPTION...] < pairs.jsonl      each line ["context", "completion"]; prints their log-likelihoods

dlm-eval runs as a coprocess: one line in, one line out, so the model is read once and a request may come whenever it likes. A score hangs on its text alone, so
the order in which a harness sorts its requests changes nothing. What likelihood does not answer (is a completion the greedy one? generation) is refused.
"""
import json
import subprocess
import sys


class Scorer:
    def __init__(self, checkpoint, *options):
        command = ["dlm-eval", "-c", checkpoint, "--score", "--skip-bad", "-q", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def score(self, **request):
        """The request with its likelihood: "elbo" in nats, "elbo_se", "tokens", "bytes"."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("dlm-eval ended with status %d" % self.process.wait())
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        if self.process.wait():
            raise RuntimeError("dlm-eval failed")


def register():
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model

    @register_model("dlm")
    class Dlm(LM):
        def __init__(self, checkpoint, levels=128, **ignored):
            super().__init__()
            self.scorer = Scorer(checkpoint, "--levels", str(levels))

        def loglikelihood(self, requests):
            answers = [self.scorer.score(context=context, completion=text) for context, text in (r.args for r in requests)]
            return [(-a["elbo"], False) for a in answers]

        def loglikelihood_rolling(self, requests):
            return [-self.scorer.score(text=r.args[0])["elbo"] for r in requests]

        def generate_until(self, requests):
            raise NotImplementedError("generation: dlm-eval --task, or dlm-sample")


if __name__ == "__main__":
    scorer = Scorer(*sys.argv[1:])
    for pair in sys.stdin:
        context, completion = json.loads(pair)
        print("%.9g" % -scorer.score(context=context, completion=completion)["elbo"])
    scorer.close()
else:
    try:
        register()
    except ImportError:  # without the harness the Scorer is still of use
        pass
