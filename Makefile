.PHONY: check test docs web bench

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

web:
	cd web && npm ci && npm run check && npm run build

bench:
	python benchmarks/inference.py --models nano
