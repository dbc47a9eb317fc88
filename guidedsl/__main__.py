"""`python -m guidedsl`."""

from guidedsl.cli import main

raise SystemExit(main())
