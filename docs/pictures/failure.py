"""Makes failure.svg of docs/why.md again: `python docs/pictures/failure.py`."""

from pathlib import Path

import chainrule as cr

HERE = Path(__file__).parent

x = cr.tensor([4.0, 1.0, 0.25], requires_grad=True)
w = cr.tensor(0.5, requires_grad=True)
picture = HERE / "failure.svg"
try:
    with cr.detect_anomaly(draw=picture):
        scaled = x * w
        logs = cr.log(scaled - 0.5)
        loss = logs.mean()
except cr.AnomalyError as error:
    print(error)
picture.write_text(picture.read_text().replace(f"{HERE}/", ""))
