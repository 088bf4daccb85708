"""What each tissue looks like: Hounsfield units for CT, relaxation times or chance for MR."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# name: (mean HU, spread of the mean between subjects, texture inside one subject)
HOUNSFIELD: Mapping[str, tuple[float, float, float]] = {
    "air": (-1000, 5, 0),
    "lung": (-840, 50, 35),
    "fat": (-100, 10, 9),
    "skin": (10, 25, 10),
    "muscle": (52, 12, 9),
    "blood": (42, 8, 3),
    "vein": (45, 10, 3),
    "heart": (45, 12, 5),
    "liver": (58, 14, 5),
    "spleen": (50, 10, 4),
    "kidney": (35, 10, 5),
    "medulla": (30, 10, 4),
    "bowel": (30, 15, 14),
    "stool": (-60, 180, 130),
    "fluid": (8, 7, 3),
    "cortical": (1150, 300, 90),
    "marrow": (180, 110, 70),
    "disc": (80, 20, 12),
    "cartilage": (110, 40, 12),
    "csf": (8, 4, 2),
    "grey": (38, 4, 2),
    "white": (29, 4, 2),
    "nuclei": (37, 4, 2),
    "cord": (36, 6, 3),
    "lens": (75, 15, 3),
    "tumour": (45, 40, 16),
    "necrosis": (18, 15, 6),
    "calcium": (450, 300, 60),
    "table": (-250, 250, 10),
}

# name: (proton density, T1 ms, T2 ms) near 1.5 to 3 T; Stanisz et al., MRM 2005; de Bazelaire et al.,
# Radiology 2004; Bottomley et al., Med Phys 1984; rounded, and shaken for each subject.
RELAXATION: Mapping[str, tuple[float, float, float]] = {
    "air": (0.0, 1000, 50),
    "lung": (0.12, 1200, 30),
    "fat": (0.95, 320, 75),
    "skin": (0.6, 600, 35),
    "muscle": (0.8, 1100, 38),
    "blood": (0.85, 1500, 180),
    "vein": (0.85, 1500, 130),
    "heart": (0.8, 1050, 45),
    "liver": (0.75, 650, 40),
    "spleen": (0.8, 1150, 65),
    "kidney": (0.82, 1000, 75),
    "medulla": (0.85, 1450, 85),
    "bowel": (0.75, 1100, 55),
    "stool": (0.4, 800, 45),
    "fluid": (1.0, 3000, 700),
    "cortical": (0.06, 400, 3),
    "marrow": (0.85, 450, 65),
    "disc": (0.75, 1000, 80),
    "cartilage": (0.7, 1100, 35),
    "csf": (1.0, 4000, 1200),
    "grey": (0.84, 1350, 95),
    "white": (0.70, 850, 75),
    "nuclei": (0.78, 1150, 80),
    "cord": (0.72, 900, 78),
    "lens": (0.5, 1000, 30),
    "tumour": (0.88, 1500, 120),
    "necrosis": (0.95, 2500, 300),
    "calcium": (0.15, 600, 10),
    "table": (0.0, 1000, 50),
}

TISSUES = tuple(HOUNSFIELD)


class Palette(dict[str, tuple[float, float]]):
    """tissue name -> (mean, texture) in image units."""

    def __init__(self, values: Mapping[str, tuple[float, float]], units: str) -> None:
        super().__init__(values)
        self.units = units


def ct_palette(rng: np.random.Generator, *, enhanced: bool | None = None) -> Palette:
    """Hounsfield units of one subject; with iodine in vessels and organs if `enhanced` (by chance: 45 %)."""
    shake = rng.normal(0, 0.6, len(TISSUES))
    values = {
        name: (mean + spread * float(e), texture * float(rng.uniform(0.6, 1.5)))
        for (name, (mean, spread, texture)), e in zip(HOUNSFIELD.items(), shake, strict=True)
    }
    if rng.random() < 0.45 if enhanced is None else enhanced:
        arterial, venous = rng.uniform(80, 420), rng.uniform(60, 220)
        gain = {"blood": arterial, "vein": venous, "heart": 0.25 * venous, "liver": 0.3 * venous}
        gain |= {"spleen": 0.4 * venous, "kidney": 0.6 * venous, "medulla": 0.4 * venous}
        gain |= {"muscle": 8.0, "bowel": 0.2 * venous, "tumour": rng.uniform(0, 0.5) * venous}
        for name, more in gain.items():
            values[name] = (values[name][0] + float(more), values[name][1])
    return Palette(values, "HU")


def mr_palette(rng: np.random.Generator, *, realistic: bool | None = None) -> Palette:
    """Signal of one subject in one random sequence, about 0 to 1.

    Two times in three from the signal equations of spin echo, spoiled gradient echo or inversion recovery
    with random timing (Bernstein, King & Zhou, Handbook of MRI Pulse Sequences, 2004); else each tissue by
    chance, as SynthSeg does (Billot et al., Med Image Anal 2023).
    """
    values: dict[str, float] = {}
    if rng.random() < 0.67 if realistic is None else realistic:
        kind = rng.choice(["t1", "t2", "pd", "flair", "gre", "t2"])
        timing = {
            "t1": (rng.uniform(350, 800), rng.uniform(5, 18), 0.0),
            "t2": (rng.uniform(2500, 7000), rng.uniform(70, 130), 0.0),
            "pd": (rng.uniform(2000, 4000), rng.uniform(10, 35), 0.0),
            "flair": (9000.0, rng.uniform(90, 140), rng.uniform(2200, 2600)),
            "gre": (rng.uniform(7, 400), rng.uniform(2, 15), 0.0),
        }
        tr, te, ti = timing[str(kind)]
        angle = np.deg2rad(rng.uniform(8, 60)) if kind == "gre" else np.pi / 2
        fat = rng.uniform(0.05, 0.3) if rng.random() < 0.3 else rng.uniform(0.8, 1.5)
        gadolinium = rng.random() < 0.3 and kind in ("t1", "gre")
        flow = rng.uniform(0.1, 1.0)
        for name, (density, t1, t2) in RELAXATION.items():
            d, t1, t2 = (
                density * rng.uniform(0.9, 1.1),
                t1 * rng.uniform(0.85, 1.15),
                t2 * rng.uniform(0.85, 1.15),
            )
            if gadolinium and name in ("blood", "vein", "tumour", "kidney", "spleen", "liver", "heart"):
                t1 *= rng.uniform(0.15, 0.6)
            recovery = np.exp(-tr / t1)
            if kind == "flair":
                signal = abs(1 - 2 * np.exp(-ti / t1) + recovery)
            else:
                signal = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)
            signal *= d * np.exp(-te / t2)
            signal *= fat if name == "fat" else flow if name in ("blood", "vein") else 1.0
            values[name] = float(signal)
    else:
        values = {name: float(rng.beta(1.1, 1.4)) for name in TISSUES}
        values |= {"air": 0.0, "table": 0.0, "cortical": values["cortical"] * float(rng.uniform(0, 0.5))}
    top = (
        float(np.quantile([values[n] for n in ("fat", "grey", "white", "muscle", "liver", "csf")], 0.8))
        + 1e-6
    )
    texture = rng.uniform(0.01, 0.06)
    return Palette({n: (v / top, texture * (0.2 + v / top) * (v > 0)) for n, v in values.items()}, "")
