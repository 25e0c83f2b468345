"""`python -m enformer_ray`: the command line where the program itself is not installed."""

from enformer_ray.cli.main import main

if __name__ == "__main__":
    main()
