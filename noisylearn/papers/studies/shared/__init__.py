"""What several studies of one paper share: theory, networks in training, profiles, options of the trainings."""
