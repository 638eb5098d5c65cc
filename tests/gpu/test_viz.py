"""Pictures, pages and explanations of what ran on a GPU."""

import chainrule as cr


def test_values_names_and_gradients_are_shown(gpu_by_default):
    with cr.viz.record():
        offset = cr.tensor([1.0, 2.0])
        w = cr.tensor([3.0, 4.0], requires_grad=True)
        loss = (w * w + offset).sum()
        loss.backward()
    lines = cr.viz.text(loss).splitlines()
    assert any("─ w" in line and "[6, 8]" in line for line in lines)
    assert any("offset" in line and "[1, 2]" in line for line in lines)
    assert "6, 8" in cr.viz.draw(loss).mermaid and cr.viz.why(w).kind == "fine"


def test_the_playground_and_the_optimisers_run(gpu_by_default, tmp_path):
    assert cr.viz.playground(out=tmp_path / "a.html", steps=3, n=20, verbose=False).exists()
    assert cr.viz.optimizers(["bowl"], out=tmp_path / "b.html", steps=3, verbose=False).exists()
