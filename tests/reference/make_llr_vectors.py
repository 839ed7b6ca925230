"""Write llr_vectors.json: LLRs by log-sum-exp in 60 decimal digits, from qam_points.json.

Every case is one received symbol: y = gain * x + noise, or a chosen place (on decision boundaries, far
outside, with hardly any gain or none).  Es/N0 runs from -30 to 60 dB.  Inputs are the exact float64 numbers
in the file; the values are not clipped.  Run it in this folder; it needs mpmath (a dependency of sympy, which
torch and scikit-commpy bring along).
"""

import json
from pathlib import Path
from random import Random

import mpmath

POINTS = Path(__file__).with_name("qam_points.json")
FILE = Path(__file__).with_name("llr_vectors.json")
DIGITS = 60
SNRS_DB = (-30, -10, 0, 5, 10, 15, 20, 27, 30, 40, 60)


def cases(order: int, pairs: list[list[int]], scale: float) -> list[dict[str, object]]:
    """Received symbols of one constellation, as float64."""
    random = Random(order)
    found: list[dict[str, object]] = []
    for snr_db in SNRS_DB:
        noise_var = 10.0 ** (-snr_db / 10)
        deviation = (noise_var / 2) ** 0.5
        for gain in (1 + 0j, complex(random.gauss(0, 0.7), random.gauss(0, 0.7))):
            re, im = random.choice(pairs)
            noise = complex(random.gauss(0, deviation), random.gauss(0, deviation))
            found.append(_case(order, gain * complex(re / scale, im / scale) + noise, gain, noise_var))
        found.append(_case(order, complex(0.0, 2 / scale), 1 + 0j, noise_var))  # on two boundaries
        found.append(_case(order, complex(3.7, -250.0), 0.6 - 0.8j, noise_var))  # far outside
        found.append(_case(order, complex(0.4, -0.3), 1e-7 + 2e-7j, noise_var))  # hardly any gain
        found.append(_case(order, complex(0.4, -0.3), 0j, noise_var))  # none at all
    return found


def _case(order: int, received: complex, gain: complex, noise_var: float) -> dict[str, object]:
    return {
        "order": order,
        "received": [received.real, received.imag],
        "gain": [gain.real, gain.imag],
        "noise_var": noise_var,
    }


def reference_llr(
    case: dict[str, object], pairs: list[list[int]], scale_squared: int
) -> tuple[list[float], list[float]]:
    """Exact and max-log LLRs of one case, MSB first, rounded to float64 at the end."""
    with mpmath.workdps(DIGITS):
        scale = mpmath.sqrt(scale_squared)
        y, h = (mpmath.mpc(*case[name]) for name in ("received", "gain"))  # type: ignore[misc]
        metrics = [
            -(abs(y - h * mpmath.mpc(*pair) / scale) ** 2) / mpmath.mpf(case["noise_var"]) for pair in pairs
        ]
        exact, maxlog = [], []
        for position in range(len(pairs).bit_length() - 2, -1, -1):
            groups: tuple[list[mpmath.mpf], list[mpmath.mpf]] = ([], [])
            for number, metric in enumerate(metrics):
                groups[number >> position & 1].append(metric)
            zeros, ones = groups
            exact.append(float(_log_sum_exp(ones) - _log_sum_exp(zeros)))
            maxlog.append(float(max(ones) - max(zeros)))
        return exact, maxlog


def _log_sum_exp(values: list[mpmath.mpf]) -> mpmath.mpf:
    largest = max(values)
    return largest + mpmath.log(mpmath.fsum(mpmath.exp(value - largest) for value in values))


def make() -> list[dict[str, object]]:
    """All cases with their values."""
    tables = json.loads(POINTS.read_text(encoding="utf-8"))
    made = []
    for order, table in tables.items():
        pairs, scale_squared = table["points"], table["scale_squared"]
        for case in cases(int(order), pairs, float(scale_squared) ** 0.5):
            exact, maxlog = reference_llr(case, pairs, scale_squared)
            made.append(case | {"exact": exact, "maxlog": maxlog})
    return made


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case) for case in make())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
