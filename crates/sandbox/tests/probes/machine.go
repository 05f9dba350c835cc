// What a Go program is told of its machine; it is static and calls the kernel itself.
package main

import (
	"fmt"
	"runtime"
)

func main() {
	fmt.Println("cpus.NumCPU", runtime.NumCPU())
	fmt.Println("threads.GOMAXPROCS", runtime.GOMAXPROCS(0))
}
