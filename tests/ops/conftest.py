"""At the end of a run, how much was compared with PyTorch."""


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get("passed", [])
    counts = [n for report in passed for name, n in report.user_properties if name == "samples of PyTorch compared"]
    if counts:
        terminalreporter.write_line(
            f"parity: {sum(counts)} samples of {len(counts)} operations agree with PyTorch "
            "in value, gradient and second gradient"
        )
