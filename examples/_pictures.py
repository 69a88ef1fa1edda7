"""Where the examples leave their pictures."""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def output_folder(description):
    """The folder given as `--output`, or that of the documentation."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the picture")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(figure, path):
    """Save with a palette, a third of the size, and close."""
    figure.savefig(path, dpi=80)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256)
    small.save(path, optimize=True)
    print(f"Written to {path}")
