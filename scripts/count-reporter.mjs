// Prints `N passed, N failed[, N skipped]` as the last line of a jest run.
import process from 'node:process';

export default class CountReporter {
  onRunComplete(_contexts, results) {
    // A suite that could not be loaded has no tests to count, and must not look like success.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const line = `${results.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`;
    // Other reporters, and jest's warning about open handles, come after this call.
    process.once('exit', () => process.stdout.write(line));
  }
}
