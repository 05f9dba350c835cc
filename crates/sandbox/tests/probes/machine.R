# What a program of R is told of its machine.
cat(sprintf("cpus.detectCores %d\n", parallel::detectCores()))
