plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "mixnet.sample"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "mixnet.sample"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "1.0"
    }

    androidResources {
        noCompress += "tflite" // so that the file is mapped into memory, and not unpacked
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(project(":classifier-core"))
    implementation(libs.activity)
    implementation(libs.camera.camera2)
    implementation(libs.camera.view)
    implementation(libs.litert)
    implementation(libs.mediapipe.tasks.vision)
}
