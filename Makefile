.PHONY: check test docs bench

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

bench:
	python benchmarks/inference.py --models nano
