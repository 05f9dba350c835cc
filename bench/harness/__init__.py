"""What every benchmark needs: figures, processes, files, the machine."""
