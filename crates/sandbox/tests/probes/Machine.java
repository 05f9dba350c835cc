// What a Java program is told of its machine.
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;

public class Machine {
    public static void main(String[] arguments) {
        Runtime runtime = Runtime.getRuntime();
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        System.out.println("cpus.availableProcessors " + runtime.availableProcessors());
        System.out.println("cpus.getAvailableProcessors " + system.getAvailableProcessors());
        System.out.println("memory.getTotalMemorySize " + system.getTotalMemorySize());
        System.out.println("within.maxMemory " + runtime.maxMemory());
    }
}
