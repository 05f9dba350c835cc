// What a program of Node.js is told of its machine.
const os = require("os");
const said = {
  "cpus.cpus": os.cpus().length,
  "memory.totalmem": os.totalmem(),
};
// Of newer versions only.
if (os.availableParallelism) said["rounded.availableParallelism"] = os.availableParallelism();
if (process.constrainedMemory) said["memory.constrainedMemory"] = process.constrainedMemory();
for (const name in said) console.log(name, said[name]);
