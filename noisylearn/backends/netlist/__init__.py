"""Networks as plain records: layers, connections and neurons, without torch modules."""
