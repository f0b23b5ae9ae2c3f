"""Which folders are packages; everything else about the build is in pyproject.toml.

The repository root is the package `syllabary` itself, and every folder of code in it a part of it,
except what lies beside the rooms. (pyproject.toml alone can't put a name before folders it finds.)
"""

from pathlib import Path

from setuptools import find_packages, setup

BESIDE = ("tests", "benchmarks", "docs", "examples")

exclude = [pattern for folder in BESIDE for pattern in (folder, f"{folder}.*")]
rooms = find_packages(str(Path(__file__).parent), exclude=exclude)
setup(
    packages=["syllabary", *(f"syllabary.{room}" for room in sorted(rooms))],
    # Builders run this file under names of their own. By its own, setuptools leaves it out of the
    # package, in whose folder it lies.
    script_name=Path(__file__).name,
)
