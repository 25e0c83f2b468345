"""`python -m enformer_ray`: runs the command line where the program `enformer-ray` is not on the path."""

from enformer_ray.cli.main import main

if __name__ == "__main__":
    main()
