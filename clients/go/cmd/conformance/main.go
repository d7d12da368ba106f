// Command conformance drives the client through the cases of tests/conformance: a command per line in, a report per
// line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"os"
)

const lineBytesMax = 16 << 20

func main() {
	log.SetFlags(0)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	reports := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var told command
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			log.Fatalf("a line is no command: %v", err)
		}
		seen := report{ID: told.ID}
		if err := told.run(context.Background(), &seen); err != nil {
			seen.Error = failureOf(err)
		}
		if err := reports.Encode(seen); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
