"""Which checks compare what files compute on samples?

simulation_check    do the tables predict what the file computes?
accuracy_check      is a file as accurate as when it was made?
"""
