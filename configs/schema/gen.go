// Command schema writes the JSON Schemas of node files and deployment files beside
// itself, for editors:
//
//	cd configs/schema && go generate
package main

//go:generate go run .

import (
	"fmt"
	"os"

	"github.com/fairlead-io/fairlead/runtime/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	for name, schema := range schemas() {
		data, err := schema()
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return fmt.Errorf("write schema: %w", err)
		}
	}
	return nil
}

// schemas are the files and what makes their content.
func schemas() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){
		"node.json":       config.NodeSchema,
		"deployment.json": config.DeploymentSchema,
	}
}
