"""The CGSchNet potential: priors, network, fitting and Langevin dynamics."""
