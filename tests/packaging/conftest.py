"""The wheel and the source archive, built once, and an environment with the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
from building import SDIST, WHEEL, Installed, build, check_out, install


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has."""
    folder = tmp_path_factory.mktemp("checkout")
    check_out(folder)
    return folder


@pytest.fixture(scope="session")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive."""
    return build(SDIST, checkout, tmp_path_factory.mktemp("sdist") / "dist")


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build(WHEEL, checkout, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the wheel."""
    return install(wheel, tmp_path_factory.mktemp("environment") / "venv")
