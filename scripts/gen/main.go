// Command gen writes the Go code of every .proto file of the repository, with
// nothing but Go: the compiler and the generator are libraries. Run it from the
// repository's root (make gen).
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := protoFiles(".")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := generate(file); err != nil {
			return fmt.Errorf("cannot generate code of %s: %w", file, err)
		}
	}
	return nil
}

func protoFiles(root string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".proto") {
			out = append(out, path)
		}
		return err
	})
	return out, err
}

func generate(file string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), file)
	if err != nil {
		return err
	}
	gen, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file},
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(compiled[0])},
		Parameter:      proto.String("paths=source_relative"),
	})
	if err != nil {
		return err
	}
	internal_gengo.GenerateFile(gen, gen.Files[0])
	for _, f := range gen.Response().GetFile() {
		if err := os.WriteFile(filepath.FromSlash(f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return fmt.Errorf("cannot write generated code: %w", err)
		}
	}
	return nil
}
