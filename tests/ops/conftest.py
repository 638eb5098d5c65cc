"""At the end of a run, how much was compared with PyTorch."""


def pytest_terminal_summary(terminalreporter):
    wanted = "samples of PyTorch compared"
    counts = [n for report in terminalreporter.stats.get("passed", []) for name, n in report.user_properties if name == wanted]
    if counts:
        terminalreporter.write_line(
            f"parity: {sum(counts)} samples of {len(counts)} operations agree with PyTorch in value, gradient and second gradient"
        )
