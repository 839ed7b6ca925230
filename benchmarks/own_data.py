"""Features in whatever units they come: a link on data sets as they are, standardised, and in other units.

    python benchmarks/own_data.py --seeds 3 --out runs/own_data

For each data set of scikit-learn the same rows are given three times: as the data set has them, standardised
by the training part, and with each column in another unit (times 10 to a power of -6..6, and moved).  Prints
a markdown table: accuracy on the test split of the deployed hard system, over noise drawn from the training
range of Es/N0, mean ± standard deviation over training seeds; and of logistic regression on the same rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from runs import spread, train_once
from twophase.training.evaluate import evaluate_hard
from twophase.training.folder import load_config
from twophase.training.tasks import load_task
from twophase.training.tasks.split import stratified
from twophase.training.trainer import Trainer

SETS = ("wine", "breast_cancer", "iris")
REPEATS = 50


def main() -> None:
    """Train on each set in each form, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/own_data"))
    arguments = parser.parse_args()
    print("| data set | form | link, test | logistic regression |\n|---|---|---|---|")
    for name in SETS:
        whole = getattr(datasets, f"load_{name}")()
        for form, features in forms(whole.data, whole.target).items():
            arguments.out.mkdir(parents=True, exist_ok=True)
            path = arguments.out / f"{name}-{form.replace(' ', '_')}.npz"
            np.savez(path, input=features, label=whole.target)
            reached = [
                measure(arguments.out, f"{name} {form}", path, seed) for seed in range(arguments.seeds)
            ]
            rest = stratified(whole.target)
            model = LogisticRegression(max_iter=10_000).fit(features[rest.train], whole.target[rest.train])
            score = model.score(features[rest.test], whole.target[rest.test])
            print(f"| {name} | {form} | {spread(reached)} | {score:.4f} |", flush=True)


def forms(features: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """The same rows as they come, standardised, and with each column in a unit of its own."""
    train = features[stratified(labels).train]
    rng = np.random.default_rng(0)
    units = 10 ** rng.uniform(-6, 6, features.shape[1])
    moved = rng.uniform(-3, 3, features.shape[1]) * train.std(axis=0)
    found = {
        "as it comes": features,
        "standardised": (features - train.mean(axis=0)) / train.std(axis=0),
        "other units": (features + moved) * units,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def measure(out: Path, name: str, data: Path, seed: int) -> float:
    """Train once, unless it was done; accuracy of the deployed model on the test split."""
    folder = train_once(out, name, seed, ["--task", "npz", "--data", str(data)])
    config = load_config(folder)
    trainer = Trainer(config, load_task("npz", data))
    model, _ = trainer.stored(config.deploy)
    return evaluate_hard(model, trainer.task.test, config, REPEATS).accuracy


if __name__ == "__main__":
    main()
