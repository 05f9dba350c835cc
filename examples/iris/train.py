#!/usr/bin/env python3
"""Trains and cross-validates a classifier on Fisher's iris data, with the standard library alone.

The model is multinomial logistic regression (softmax regression), trained by gradient descent
with momentum on standardised measurements. It is judged by stratified five-fold
cross-validation, then trained once more on all flowers. Two files are written: out/model.json
and out/report.html.

The only randomness is the shuffle before the folds, and its seed is fixed: every run gives the
same numbers.
"""

import argparse
import csv
import html
import json
import math
import pathlib
import random
import time

HERE = pathlib.Path(__file__).resolve().parent
MEASUREMENTS = ["sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm"]
SEED = 1936  # The year of Fisher's paper.


def read_flowers(path):
    """Rows of measurements, the class of each row, and the names of the classes."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    species = sorted({row["species"] for row in rows})
    measured = [[float(row[name]) for name in MEASUREMENTS] for row in rows]
    return measured, [species.index(row["species"]) for row in rows], species


class Scaler:
    """Gives every measurement mean 0 and standard deviation 1, as seen in training."""

    def __init__(self, rows):
        columns = list(zip(*rows))
        self.means = [math.fsum(column) / len(column) for column in columns]
        self.deviations = [
            math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column))
            for column, mean in zip(columns, self.means)
        ]

    def apply(self, row):
        return [(v - m) / d for v, m, d in zip(row, self.means, self.deviations)]


class Model:
    """Softmax regression: a weight for every class and measurement, and a bias per class."""

    def __init__(self, scaler, classes):
        self.scaler = scaler
        self.weights = [[0.0] * (len(MEASUREMENTS) + 1) for _ in range(classes)]

    def probabilities(self, row):
        return softmax(self.weights, self.scaler.apply(row) + [1.0])

    def predict(self, row):
        chances = self.probabilities(row)
        return chances.index(max(chances))


def softmax(weights, inputs):
    scores = [sum(w * x for w, x in zip(row, inputs)) for row in weights]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def train(rows, labels, classes, options, tell=None):
    """Minimises the mean cross-entropy; the last weights that it moves to are the model's."""
    rate, momentum, epochs = options.rate, options.momentum, options.epochs
    model = Model(Scaler(rows), classes)
    inputs = [model.scaler.apply(row) + [1.0] for row in rows]
    speed = [[0.0] * len(inputs[0]) for _ in range(classes)]
    losses = []
    for epoch in range(1, epochs + 1):
        gradient = [[0.0] * len(inputs[0]) for _ in range(classes)]
        loss = 0.0
        for x, label in zip(inputs, labels):
            chances = softmax(model.weights, x)
            loss -= math.log(max(chances[label], 1e-300))
            for index, chance in enumerate(chances):
                error = chance - (index == label)
                row = gradient[index]
                for at, value in enumerate(x):
                    row[at] += error * value
        for weights, moved, slope in zip(model.weights, speed, gradient):
            for at in range(len(weights)):
                moved[at] = momentum * moved[at] - rate * slope[at] / len(inputs)
                weights[at] += moved[at]
        losses.append(loss / len(inputs))
        if tell:
            tell(epoch, losses[-1])
    return model, losses


def stratified_folds(labels, count):
    """Indices in `count` parts; every class has the same share in each."""
    generator = random.Random(SEED)
    folds = [[] for _ in range(count)]
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        generator.shuffle(members)
        for position, index in enumerate(members):
            folds[position % count].append(index)
    return folds


def cross_validate(rows, labels, classes, folds, options):
    """A prediction for every flower by a model that has not seen it, and each fold's accuracy."""
    predictions = [None] * len(rows)
    accuracies = []
    for number, held_out in enumerate(folds, start=1):
        rest = sorted(set(range(len(rows))) - set(held_out))
        model, losses = train([rows[i] for i in rest], [labels[i] for i in rest], classes, options)
        for index in held_out:
            predictions[index] = model.predict(rows[index])
        right = sum(predictions[index] == labels[index] for index in held_out)
        accuracies.append(right / len(held_out))
        bar = "#" * round(20 * number / len(folds))
        print(
            f"fold {number}/{len(folds)} [{bar:<20}] loss {losses[-1]:.4f}, "
            f"{right} of {len(held_out)} right ({accuracies[-1]:.1%})",
            flush=True,
        )
    return predictions, accuracies


def confusion(labels, predictions, classes):
    table = [[0] * classes for _ in range(classes)]
    for truth, guess in zip(labels, predictions):
        table[truth][guess] += 1
    return table


# ---------------------------------------------------------------------------------------- report

# Okabe and Ito's colours, which colour-blind readers can tell apart; shapes differ as well.
COLOURS = ["#0072b2", "#d55e00", "#009e73"]
SHAPES = ["circle", "square", "triangle"]


def text(x, y, words, anchor="middle", style="", size=12):
    words = html.escape(str(words))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {style}>{words}</text>'


def marker(shape, x, y, colour, size=4.5):
    style = f'fill="{colour}" fill-opacity="0.85" stroke="#ffffff" stroke-width="0.8"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {style}/>'
    if shape == "square":
        side = 1.75 * size
        return f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}" {style}/>'
    points = f"{x:.1f},{y - 1.2 * size:.1f} {x - 1.1 * size:.1f},{y + 0.8 * size:.1f} {x + 1.1 * size:.1f},{y + 0.8 * size:.1f}"
    return f'<polygon points="{points}" {style}/>'


def axes(left, top, width, height, x_ticks, y_ticks, x_at, y_at):
    parts = []
    for value in x_ticks:
        x = x_at(value)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" class="grid"/>')
        parts.append(text(x, top + height + 18, f"{value:g}"))
    for value in y_ticks:
        y = y_at(value)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        parts.append(text(left - 8, y + 4, f"{value:g}", anchor="end"))
    parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" class="frame"/>')
    return parts


def scatter(rows, labels, predictions, species, model):
    """Petal length against petal width over what the model would say there."""
    left, top, width, height = 60, 16, 600, 360
    x_range, y_range = (0.5, 7.25), (-0.1, 2.75)

    def x_at(value):
        return left + (value - x_range[0]) / (x_range[1] - x_range[0]) * width

    def y_at(value):
        return top + height - (value - y_range[0]) / (y_range[1] - y_range[0]) * height

    means = model.scaler.means
    parts = ['<svg viewBox="0 0 690 430" role="img" aria-label="Petal length and petal width of 150 flowers">']
    columns, lines = 120, 72
    cell_width, cell_height = width / columns, height / lines
    for line in range(lines):
        petal_width = y_range[0] + (lines - line - 0.5) / lines * (y_range[1] - y_range[0])
        start, current = 0, None
        for column in range(columns + 1):
            guess = None
            if column < columns:
                petal_length = x_range[0] + (column + 0.5) / columns * (x_range[1] - x_range[0])
                guess = model.predict([means[0], means[1], petal_length, petal_width])
            if guess != current:
                if current is not None:
                    parts.append(
                        f'<rect x="{left + start * cell_width:.1f}" y="{top + line * cell_height:.1f}" '
                        f'width="{(column - start) * cell_width:.1f}" height="{cell_height + 0.3:.1f}" '
                        f'fill="{COLOURS[current]}" fill-opacity="0.10"/>'
                    )
                start, current = column, guess
    parts += axes(left, top, width, height, range(1, 8), [0, 0.5, 1, 1.5, 2, 2.5], x_at, y_at)
    for row, label, guess in zip(rows, labels, predictions):
        x, y = x_at(row[2]), y_at(row[3])
        parts.append(marker(SHAPES[label], x, y, COLOURS[label]))
        if guess != label:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="#c00000" stroke-width="2"/>')
    parts.append(text(left + width / 2, top + height + 40, "petal length (cm)", size=13))
    middle = top + height / 2
    parts.append(text(16, middle, "petal width (cm)", style=f'transform="rotate(-90 16 {middle:.0f})"', size=13))
    for index, name in enumerate(species):
        y = top + 22 + 20 * index
        parts.append(marker(SHAPES[index], left + 18, y - 4, COLOURS[index], size=5))
        parts.append(text(left + 32, y, name, anchor="start", size=13))
    parts.append(f'<circle cx="{left + 18}" cy="{top + 78}" r="7" fill="none" stroke="#c00000" stroke-width="2"/>')
    parts.append(text(left + 32, top + 82, "mistaken in cross-validation", anchor="start", size=13))
    return "\n".join(parts + ["</svg>"])


def matrix(table, species):
    side, left, top = 82, 96, 40
    parts = ['<svg viewBox="0 0 360 320" role="img" aria-label="Confusion matrix">']
    for truth, counts in enumerate(table):
        for guess, count in enumerate(counts):
            share = count / max(1, sum(counts))
            x, y = left + guess * side, top + truth * side
            colour = "#0072b2" if truth == guess else "#c00000"
            opacity = 0.08 + 0.82 * share if count else 0.03
            ink = "#ffffff" if share > 0.5 else "#1c2430"
            parts.append(f'<rect x="{x}" y="{y}" width="{side - 4}" height="{side - 4}" rx="6" fill="{colour}" fill-opacity="{opacity:.2f}"/>')
            parts.append(text(x + side / 2 - 2, y + side / 2 + 6, count, style=f'fill="{ink}" font-weight="600"', size=22))
    for index, name in enumerate(species):
        parts.append(text(left + index * side + side / 2 - 2, top - 10, name))
        parts.append(text(left - 10, top + index * side + side / 2 + 3, name, anchor="end"))
    parts.append(text(left + 1.5 * side - 2, top + 3 * side + 20, "columns: predicted; rows: true", size=12))
    return "\n".join(parts + ["</svg>"])


def bars(accuracies):
    left, top, width, height = 46, 20, 290, 230
    parts = ['<svg viewBox="0 0 360 320" role="img" aria-label="Accuracy of each fold">']
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = top + height * (1 - value)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        parts.append(text(left - 8, y + 4, f"{value:.0%}", anchor="end", size=11))
    step = width / len(accuracies)
    for index, accuracy in enumerate(accuracies):
        x, y = left + index * step + step * 0.1, top + height * (1 - accuracy)
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height * accuracy:.1f}" rx="3" fill="#0072b2"/>')
        parts.append(text(x + step * 0.4, top + height - 10, f"{accuracy:.1%}", style='fill="#ffffff" font-weight="600"', size=11))
        parts.append(text(x + step * 0.4, top + height + 18, f"fold {index + 1}"))
    mean = sum(accuracies) / len(accuracies)
    y = top + height * (1 - mean)
    parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="#d55e00" stroke-width="1.6" stroke-dasharray="5 4"/>')
    parts.append(text(left + width / 2, top + height + 44, f"dashed: the mean, {mean:.1%}"))
    return "\n".join(parts + ["</svg>"])


def curve(losses):
    left, top, width, height = 60, 16, 600, 180
    highest = max(losses)

    def x_at(epoch):
        return left + epoch / len(losses) * width

    def y_at(loss):
        return top + height * (1 - loss / highest)

    points = " ".join(f"{x_at(epoch):.1f},{y_at(loss):.1f}" for epoch, loss in enumerate(losses, 1))
    parts = ['<svg viewBox="0 0 690 246" role="img" aria-label="Loss over the epochs">']
    epochs = [round(len(losses) * part / 5) for part in range(6)]
    parts += axes(left, top, width, height, epochs, [0, 0.25, 0.5, 0.75, 1], x_at, y_at)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#d55e00" stroke-width="2.2" stroke-linejoin="round"/>')
    parts.append(text(left + width / 2, top + height + 40, "epoch", size=13))
    return "\n".join(parts + ["</svg>"])


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Iris: a classifier and how good it is</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #f4f6f9; margin: 0; }}
  main {{ max-width: 860px; margin: 0 auto; padding: 32px 20px 48px; }}
  h1 {{ font-size: 28px; margin: 0 0 4px; }}
  h2 {{ font-size: 17px; margin: 0 0 10px; }}
  p {{ margin: 4px 0 0; color: #4a5568; }}
  .numbers {{ display: flex; gap: 14px; flex-wrap: wrap; margin: 22px 0; }}
  .number {{ background: #ffffff; border: 1px solid #dde3ea; border-radius: 10px; padding: 12px 20px; }}
  .number b {{ display: block; font-size: 26px; }}
  .number span {{ color: #4a5568; font-size: 14px; }}
  section {{ background: #ffffff; border: 1px solid #dde3ea; border-radius: 10px; padding: 18px 20px; margin: 0 0 16px; }}
  .two {{ display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }}
  @media (max-width: 700px) {{ .two {{ grid-template-columns: 1fr; }} }}
  svg {{ width: 100%; height: auto; font-family: system-ui, sans-serif; fill: #1c2430; }}
  .grid {{ stroke: #e3e8ee; stroke-width: 1; }}
  .frame {{ fill: none; stroke: #b8c2cc; }}
</style>
</head>
<body>
<main>
<h1>Iris: a classifier and how good it is</h1>
<p>Softmax regression on {count} flowers of {classes} species, four measurements each.</p>
<div class="numbers">
  <div class="number"><b>{accuracy:.1%}</b><span>right in {folds}-fold cross-validation</span></div>
  <div class="number"><b>{mistakes}</b><span>of {count} flowers mistaken</span></div>
  <div class="number"><b>{loss:.4f}</b><span>final loss on all flowers</span></div>
</div>
<section><h2>Petals, and what the model says</h2>{scatter}
<p>The shade is the model's answer for flowers with average sepals.</p></section>
<div class="two">
<section><h2>Confusion matrix</h2>{matrix}</section>
<section><h2>Accuracy of each fold</h2>{bars}</section>
</div>
<section><h2>Loss while training on all flowers</h2>{curve}</section>
<p>Data: R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7
(1936), 179-188; measured by E. Anderson.</p>
</main>
</body>
</html>
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=400, help="rounds of training (default: 400)")
    parser.add_argument("--folds", type=int, default=5, help="parts for cross-validation (default: 5)")
    parser.add_argument("--rate", type=float, default=0.1, help="length of a step (default: 0.1)")
    parser.add_argument("--momentum", type=float, default=0.9, help="what is kept of the step before (default: 0.9)")
    options = parser.parse_args()
    if options.epochs < 1 or not 2 <= options.folds <= 50:
        parser.error("--epochs has to be at least 1, --folds from 2 to 50")
    if not 0 < options.rate <= 10 or not 0 <= options.momentum < 1:
        parser.error("--rate has to be above 0 and at most 10, --momentum from 0 to less than 1")

    started = time.monotonic()
    rows, labels, species = read_flowers(HERE / "iris.csv")
    print(f"{len(rows)} flowers of {len(species)} species: {', '.join(species)}", flush=True)

    folds = stratified_folds(labels, options.folds)
    predictions, accuracies = cross_validate(rows, labels, len(species), folds, options)
    table = confusion(labels, predictions, len(species))
    right = sum(table[index][index] for index in range(len(species)))
    accuracy = right / len(rows)
    print(f"cross-validation: {right} of {len(rows)} right ({accuracy:.1%})", flush=True)

    def tell(epoch, loss):
        if epoch == 1 or epoch % max(1, options.epochs // 4) == 0:
            print(f"training on all flowers: epoch {epoch:>4}, loss {loss:.4f}", flush=True)

    model, losses = train(rows, labels, len(species), options, tell)
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    document = {
        "kind": "softmax regression",
        "measurements": MEASUREMENTS,
        "species": species,
        "means": model.scaler.means,
        "deviations": model.scaler.deviations,
        "weights": [row[:-1] for row in model.weights],
        "biases": [row[-1] for row in model.weights],
        "cross_validation": {"folds": options.folds, "accuracies": accuracies, "accuracy": accuracy, "confusion": table},
    }
    (out / "model.json").write_text(json.dumps(document, indent=2) + "\n")
    page = PAGE.format(
        count=len(rows), classes=len(species), accuracy=accuracy, folds=options.folds,
        mistakes=len(rows) - right, loss=losses[-1],
        scatter=scatter(rows, labels, predictions, species, model),
        matrix=matrix(table, species), bars=bars(accuracies), curve=curve(losses),
    )
    (out / "report.html").write_text(page)
    print(f"wrote out/model.json and out/report.html in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
